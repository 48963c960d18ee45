//! The HTTP API: routes, who may do what, error codes, the event stream. No SQL here, and no rule about presence.

mod admin;
mod body;
pub mod browser;
mod caller;
mod client;
pub mod connections;
mod dev;
mod diagnostics;
mod docs;
mod events;
mod heartbeats;
mod history;
mod join;
mod kick;
mod leave;
pub mod limits;
pub mod observe;
pub mod operators;
mod overview;
mod page;
mod presence;
pub mod problem;
mod room_settings;
mod rooms;
mod roster;
pub mod server;
mod socket;
mod state;
mod stream;
mod tickets;
pub mod tls;
mod trace_context;
mod update;
mod users;
mod watchlist;
mod webhooks;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use problem::{Code, Problem};
use utoipa_actix_web::service_config::ServiceConfig;

pub use docs::document;

use crate::auth::{Keys, TokenKey};
use crate::commands::Commands;
use crate::hub::Hub;
use crate::store::Store;
use crate::webhooks::WebhookSender;
use crate::webhooks::endpoint::Plain;

/// What the handlers work with.
pub struct Service {
    /// Writes.
    pub commands: Commands,
    /// Streams.
    pub hub: Hub,
    /// Reads.
    pub store: Store,
    /// For trying webhooks.
    pub webhooks: Hooks,
    /// Credentials.
    pub keys: Keys,
    /// How much one caller may ask for.
    pub limits: limits::Limits,
    /// Streams end after about this long.
    pub max_stream_age: Duration,
    /// In `dev`: tokens are given to anybody, and the demo page is served.
    pub mint: Option<TokenKey>,
    /// Set once, when the replica begins to shut down.
    pub draining: AtomicBool,
}

/// What sends messages to webhooks.
pub struct Hooks {
    /// Sends.
    pub sender: WebhookSender,
    /// Whether plain HTTP may leave this machine.
    pub plain: Plain,
}

impl Service {
    /// Whether the replica is shutting down.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The API, for the server and for the document alike.
pub fn api(config: &mut ServiceConfig<'_>) {
    config
        .service(heartbeats::heartbeats) // first: addresses are tried in this order
        .service(join::join)
        .service(leave::leave)
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
        .service(overview::overview)
        .service(overview::search_users)
        .service(room_settings::list_settings)
        .service(room_settings::put_settings)
        .service(room_settings::remove_settings)
        .service(webhooks::list_webhooks)
        .service(webhooks::get_webhook)
        .service(webhooks::put_webhook)
        .service(webhooks::delete_webhook)
        .service(webhooks::test_webhook)
        .service(operators::livez)
        .service(operators::readyz)
        .service(operators::metrics_text);
}

/// What operators are served where they have a listener of their own: also what their page asks for.
pub fn for_operators(config: &mut web::ServiceConfig) {
    config.service(operators::livez).service(operators::readyz).service(operators::metrics_text);
    config.service(overview::overview).service(overview::search_users);
    config.service(roster::get_roster).service(kick::kick);
    config.service(webhooks::list_webhooks).service(webhooks::get_webhook).service(webhooks::put_webhook);
    config.service(webhooks::delete_webhook).service(webhooks::test_webhook);
    admin::configure(config);
}

/// What is served beside the API.
pub fn pages(dev: bool) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        docs::configure(config);
        client::configure(config);
        admin::configure(config);
        if dev {
            dev::configure(config);
        }
    }
}

/// For addresses that do not exist, and methods that an address does not take.
pub async fn nothing_here(request: HttpRequest) -> HttpResponse {
    let known = request.resource_map().has_resource(request.path());
    let problem = Problem::from(if known { Code::MethodNotAllowed } else { Code::NotFound });
    let mut response = HttpResponse::from_error(problem); // with the problem in it, which is counted
    if known && let Ok(methods) = HeaderValue::from_str(&docs::methods(request.path())) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}
