//! The OpenAPI document, written from the handlers, and the page that shows it.

use std::sync::LazyLock;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AnyOf, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Content, HttpMethod, OpenApi as Document, Paths, Ref, RefOr, Required, Response, ResponseBuilder,
};
use utoipa::{OpenApi, ToSchema};
use utoipa_actix_web::AppExt;
use utoipa_swagger_ui::SwaggerUi;

use crate::http::api::webhooks::form::WebhookMessage;
use crate::http::request::problem::{Code, ProblemBody};
use crate::http::routes;
use crate::hub::frame::{ByeFrame, CountFrame, DiffFrame, PresenceFrame, SnapshotFrame, SyncFrame};

/// Names the codes that a call can answer with, for the document.
macro_rules! problems {
    ($name:ident: $($code:ident)*) => {
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                use $crate::http::request::problem::Code;
                $crate::http::pages::docs::responses(&[$(Code::$code),*])
            }
        }
    };
}
pub(in crate::http) use problems;

/// One response per status, with the codes that it can carry. Any call can also come too often from
/// its address, or fail by a fault of ours; any that takes a token can find its key unknown.
pub fn responses(codes: &[Code]) -> std::collections::BTreeMap<String, RefOr<Response>> {
    let mut statuses = std::collections::BTreeMap::<String, Vec<String>>::new();
    let keys = codes.contains(&Code::InvalidToken).then_some(&Code::KeysUnavailable);
    for code in codes.iter().chain([&Code::TooManyRequests, &Code::Internal]).chain(keys) {
        let line = format!("`{}`: {}", code.as_str(), code.title());
        statuses.entry(code.status().as_str().to_owned()).or_default().push(line);
    }
    let content = || Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let response = |lines: Vec<String>| {
        ResponseBuilder::new()
            .description(lines.join(" "))
            .content("application/problem+json", content())
            .build()
    };
    statuses.into_iter().map(|(status, lines)| (status, response(lines).into())).collect()
}

/// A frame of an event stream: the `data:` of the event that has its name.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documents what streams carry; frames are encoded one by one")]
pub enum Frame<'a> {
    /// `event: snapshot`
    Snapshot(SnapshotFrame<'a>),
    /// `event: diff`
    Diff(DiffFrame<'a>),
    /// `event: presence`
    Presence(PresenceFrame<'a>),
    /// `event: count`
    Count(CountFrame<'a>),
    /// `event: sync`
    Sync(SyncFrame),
    /// `event: bye`
    Bye(ByeFrame),
}

#[derive(OpenApi)]
#[openapi(
    info(title = "headcount", license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")),
    servers((url = "/", description = "The replica that serves this document.")),
    tags(
        (name = "presence", description = "Being in rooms, and seeing who is."),
        (name = "streams", description = "Watching rooms by Server-Sent Events."),
        (name = "history", description = "Who was where, and for how long, as far as the event log goes."),
        (name = "users", description = "Profiles, and where users are."),
        (name = "webhooks", description = "Being told by HTTP what happens in rooms."),
        (name = "operators", description = "For those who run the service.")
    ),
    components(schemas(ProblemBody, WebhookMessage))
)]
struct Api;

/// What the derive cannot say.
fn finish(document: &mut Document) {
    document.info.description = Some(description());
    let components = document.components.get_or_insert_default();
    let bearer = |text: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text));
        SecurityScheme::Http(scheme.build())
    };
    // A frame is told apart by the event's name, which is not in its data: any of, not one of.
    for name in ["Frame", "WatchlistFrame"] {
        if let Some(RefOr::T(frame @ Schema::OneOf(_))) = components.schemas.get_mut(name)
            && let Schema::OneOf(one_of) = frame
        {
            let mut any_of = AnyOf::new();
            any_of.items = std::mem::take(&mut one_of.items);
            any_of.description = one_of.description.take();
            *frame = Schema::AnyOf(any_of);
        }
    }
    parameters_are_never_null(document);
    document.webhooks = Some(told_to_receivers());
    let components = document.components.get_or_insert_default();
    let ticket =
        ApiKeyValue::with_description("ticket", "From `POST /v1/tickets`: watches the rooms it names.");
    components.add_security_scheme("ticket", SecurityScheme::ApiKey(ApiKey::Query(ticket)));
    components.add_security_scheme(
        "token",
        bearer("A JSON Web Token of a user, with `sub`, `exp` and `rooms`, what it allows where; optional `name`, `avatar_url`."),
    );
    components
        .add_security_scheme("server_key", bearer("A key of an application's server. Never in a browser."));
}

/// What a receiver is sent: a call in the other direction.
fn told_to_receivers() -> Paths {
    let header = |name: &str, text: &str, example: &str| {
        let schema = ObjectBuilder::new().schema_type(Type::String).examples([example]);
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::True)
            .description(Some(text))
            .schema(Some(schema))
    };
    let message = Content::new(Some(RefOr::Ref(Ref::from_schema_name("WebhookMessage"))));
    let body = RequestBodyBuilder::new().content("application/json", message).required(Some(Required::True));
    let operation = OperationBuilder::new()
        .tag("webhooks")
        .operation_id(Some("receive_presence"))
        .summary(Some("What receivers are sent"))
        .description(Some(
            "At least once, and in order in each room; each attempt is signed as Standard Webhooks have it. What is not answered \
             with 2xx within 10 s is sent again, with the same `webhook-id`, after 1 s, 2 s, 4 s and so on up to 5 min.",
        ))
        .parameter(header("webhook-id", "The same at every attempt.", "msg_0a4f6c1e52a44a579d6b0f4f3a1c9e77"))
        .parameter(header("webhook-timestamp", "When it was sent, in seconds since 1970.", "1769860800"))
        .parameter(header(
            "webhook-signature",
            "One for each secret, separated by spaces: `v1,` and the base64 of the HMAC-SHA256 of id, timestamp and body, with a \
             full stop between them.",
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ))
        .request_body(Some(body.build()))
        .response("2XX", ResponseBuilder::new().description("The receiver has it."))
        .response("410", ResponseBuilder::new().description("The receiver wants no more: the webhook is disabled."))
        .security(SecurityRequirement::default());
    PathsBuilder::new().path("presence", PathItem::new(HttpMethod::Post, operation)).build()
}

/// A parameter may be left out, but there is no null to send: what an `Option` of Rust says would mislead generators.
fn parameters_are_never_null(document: &mut Document) {
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.post, &mut path.put, &mut path.patch, &mut path.delete];
        for parameter in operations.into_iter().flatten().filter_map(|o| o.parameters.as_mut()).flatten() {
            if let RefOr::T(parameter) = parameter
                && let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
                && let SchemaType::Array(types) = &mut schema.schema_type
            {
                types.retain(|kind| *kind != Type::Null);
                if let [only] = types.as_slice() {
                    schema.schema_type = SchemaType::Type(only.clone());
                }
            }
        }
    }
}

fn description() -> String {
    let mut text = String::from(
        "Which users are online, in which room, with which status, right now.\n\n\
         A **room** is a named place, created by its first join. A **session** is one tab or device of one **user**; \
         it may be in many rooms. A **member** is a user with at least one live session in a room: two tabs are one \
         member. A **heartbeat** says that a session lives; it lasts one **lease**. A **cursor** is a position in a \
         room's event log.\n\n\
         Every answer carries `X-Request-Id`: the request's own, where it is 1 to 64 characters of \
         `A-Z a-z 0-9 _ . : ~ -`, and one made for it otherwise. Whoever runs the service finds it in its log. `traceparent` is \
         taken as W3C Trace Context says.\n\n\
         Errors are `application/problem+json` with a stable `code`:\n\n| code | status | retry after | meaning |\n|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let retry = if code.retry_after() > 0 { format!("{} s", code.retry_after()) } else { String::new() };
        text +=
            &format!("| `{}` | {} | {retry} | {} |\n", code.as_str(), code.status().as_u16(), code.title());
    }
    text
}

/// The OpenAPI document.
pub fn document() -> Document {
    let app = actix_web::App::new().into_utoipa_app().openapi(Api::openapi()).configure(routes::api);
    let mut document = app.split_for_parts().1;
    finish(&mut document);
    document
}

/// What the document says that an address takes, as `Allow` lists it. Pages are not in it: they can be got.
pub fn methods(path: &str) -> String {
    static DOCUMENT: LazyLock<Document> = LazyLock::new(document);
    let fits = |template: &str| {
        let (given, wanted) = (path.split('/'), template.split('/'));
        given.clone().count() == wanted.clone().count()
            && given.zip(wanted).all(|(given, wanted)| given == wanted || wanted.starts_with('{'))
    };
    let item = DOCUMENT.paths.paths.iter().find(|(template, _)| fits(template));
    let taken = item.map_or_else(Vec::new, |(_, item)| {
        let known = [
            (&item.get, "GET"),
            (&item.post, "POST"),
            (&item.put, "PUT"),
            (&item.patch, "PATCH"),
            (&item.delete, "DELETE"),
        ];
        known.into_iter().filter(|(taken, _)| taken.is_some()).map(|(_, method)| method).collect()
    });
    if taken.is_empty() { "GET".into() } else { taken.join(", ") }
}

/// Where a problem's `type` leads: the table of codes. All of it is ours, so nothing needs escaping.
#[get("/problems")]
async fn problem_codes() -> HttpResponse {
    let rows = Code::ALL.iter().map(|code| {
        let (name, status, title) = (code.as_str(), code.status().as_u16(), code.title());
        format!("<dt id=\"{name}\">{name} ({status})</dt><dd>{title}</dd>")
    });
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>headcount: error codes</title>\
         <h1>Error codes</h1><dl>{}</dl></html>",
        rows.collect::<String>()
    );
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/html; charset=utf-8")).body(page)
}

pub fn configure(config: &mut web::ServiceConfig) {
    config.service(problem_codes);
    config.service(web::redirect("/docs", "/docs/"));
    config.service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", document()));
}
