//! Registers the handlers: for clients, for operators, and for the OpenAPI document.

use std::sync::LazyLock;

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::openapi::OpenApi;
use utoipa_actix_web::service_config::ServiceConfig;

use super::api::{
    admin, health, heartbeats, history, join, join_rooms, kick, leave, leave_rooms, metrics, presence,
    revoke, room_settings, rooms, roster, update, users, webhooks,
};
use super::pages::{admin as admin_page, demo, docs, openapi, script};
use super::request::problem::{Code, Problem};
use super::streams::{diagnostics, events, tickets, watchlist};

/// The API, for the server and for the document alike.
pub fn api(config: &mut ServiceConfig<'_>) {
    config
        .service(heartbeats::heartbeats) // first: addresses are tried in this order
        .service(join::join)
        .service(leave::leave)
        .service(join_rooms::join_rooms)
        .service(leave_rooms::leave_rooms)
        .service(update::update)
        .service(kick::kick)
        .service(roster::get_roster)
        .service(history::members)
        .service(history::attendance)
        .service(history::occupancy)
        .service(events::room_events)
        .service(events::events)
        .service(tickets::tickets)
        .service(diagnostics::diagnostics_stream)
        .service(rooms::rooms)
        .service(presence::users_presence)
        .service(presence::user_presence)
        .service(watchlist::users_events) // before the user of that id
        .service(users::put_users)
        .service(users::put_user)
        .service(users::get_user)
        .service(users::erase_user)
        .service(revoke::revoke)
        .service(admin::overview)
        .service(admin::search_users)
        .service(room_settings::list_settings)
        .service(room_settings::put_settings)
        .service(room_settings::remove_settings)
        .service(webhooks::list_webhooks)
        .service(webhooks::get_webhook)
        .service(webhooks::put_webhook)
        .service(webhooks::delete_webhook)
        .service(webhooks::test_webhook)
        .service(health::livez)
        .service(health::readyz)
        .service(metrics::metrics_text);
}

/// The routes of the operators' listener, where there is one, including the calls that their page makes.
pub fn for_operators(config: &mut web::ServiceConfig) {
    config.service(health::livez).service(health::readyz).service(metrics::metrics_text);
    config.service(admin::overview).service(admin::search_users);
    config.service(roster::get_roster).service(kick::kick);
    config.service(webhooks::list_webhooks).service(webhooks::get_webhook).service(webhooks::put_webhook);
    config.service(webhooks::delete_webhook).service(webhooks::test_webhook);
    admin_page::configure(config);
    config.default_service(web::to(nothing_here));
}

/// Pages for clients, and the handler for addresses that do not exist.
pub fn pages(config: &mut web::ServiceConfig) {
    docs::configure(config, document());
    script::configure(config);
    admin_page::configure(config);
    config.default_service(web::to(nothing_here));
}

/// The same, with the demo page and tokens of `headcount dev`.
pub fn pages_of_dev(config: &mut web::ServiceConfig) {
    pages(config);
    demo::configure(config);
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    openapi::document(api)
}

/// Answers a path that does not exist (404), or a method that a path does not take (405).
async fn nothing_here(request: HttpRequest) -> HttpResponse {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(document);
    let known = request.resource_map().has_resource(request.path());
    let problem = Problem::from(if known { Code::MethodNotAllowed } else { Code::NotFound });
    let mut response = HttpResponse::from_error(problem); // the problem stays attached, to be counted
    if known && let Ok(methods) = HeaderValue::from_str(&openapi::methods(&DOCUMENT, request.path())) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}
