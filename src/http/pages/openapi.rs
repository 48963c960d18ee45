//! The OpenAPI document: generated from the handlers, then completed by hand where utoipa cannot express it.

use serde::Serialize;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AnyOf, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Content, HttpMethod, OpenApi as Document, Paths, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa::{OpenApi, ToSchema};
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::domain::notice::Notice;
use crate::http::request::problem::{Code, ProblemBody};

/// The message that a receiver gets. Documented here, because it is no answer of any call.
#[derive(Serialize, ToSchema)]
pub struct WebhookMessage {
    /// `presence.batch`, or `webhook.test` for a test. The `data` of a test is `{webhook}`.
    #[serde(rename = "type")]
    #[schema(example = "presence.batch")]
    kind: String,
    /// When the batch was made.
    #[schema(format = DateTime)]
    timestamp: String,
    /// The content.
    data: WebhookEvents,
}

/// The content of a batch.
#[derive(Serialize, ToSchema)]
pub struct WebhookEvents {
    /// 1 to about 500, in order in each room.
    events: Vec<Notice>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "headcount", license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")),
    servers((url = "/", description = "The replica that serves this document.")),
    tags(
        (name = "presence", description = "Joining and leaving rooms, and reading rosters."),
        (name = "streams", description = "Watching rooms by Server-Sent Events."),
        (name = "history", description = "Past members, attendance and occupancy, as far as the event log reaches back."),
        (name = "users", description = "Profiles, and the presence of users."),
        (name = "webhooks", description = "Events of rooms, sent to receivers over HTTP."),
        (name = "operators", description = "For those who run the service.")
    ),
    components(schemas(ProblemBody, WebhookMessage))
)]
struct Api;

/// Adds what the derive cannot express.
fn finish(document: &mut Document) {
    document.info.description = Some(description());
    let components = document.components.get_or_insert_default();
    let bearer = |text: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text));
        SecurityScheme::Http(scheme.build())
    };
    // Frames are distinguished by the event's name, which is not in their data, so one may match several
    // schemas: `anyOf`, not `oneOf`.
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

/// The webhook's part of the document: a call from the service to a receiver.
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
        .summary(Some("Receive events"))
        .description(Some(
            "Delivered at least once, and in order in each room. Each attempt is signed as in Standard Webhooks. A message that is not answered \
             with 2xx within 10 s is retried with the same `webhook-id`, with backoff and jitter: after 1 s, 2 s, 4 s and so on up to 5 min.",
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

/// A parameter may be absent, but never null. The derive makes an `Option` nullable, which would mislead
/// generators.
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
         `A-Z a-z 0-9 _ . : ~ -`, and one made for it otherwise. Operators find it in the log. `traceparent` is \
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

/// The OpenAPI document of these calls.
pub fn document(api: fn(&mut ServiceConfig<'_>)) -> Document {
    let app = actix_web::App::new().into_utoipa_app().openapi(Api::openapi()).configure(api);
    let mut document = app.split_for_parts().1;
    finish(&mut document);
    document
}

/// The methods of a path, as `Allow` lists them. Pages are not in the document; they take `GET`.
pub fn methods(document: &Document, path: &str) -> String {
    let fits = |template: &str| {
        let (given, wanted) = (path.split('/'), template.split('/'));
        given.clone().count() == wanted.clone().count()
            && given.zip(wanted).all(|(given, wanted)| given == wanted || wanted.starts_with('{'))
    };
    let item = document.paths.paths.iter().find(|(template, _)| fits(template));
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
