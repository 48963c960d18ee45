//! `/v1/webhooks`: the settings of webhooks, and their delivery state.

pub mod form;

use actix_web::{HttpResponse, delete, get, post, put, web};
use uuid::Uuid;

use crate::domain::webhook::WebhookName;
use crate::http::request::audience::Audience;
use crate::http::request::body::{BODY_MAX, Body, read};
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::store::webhooks::{Put, Secrets};
use crate::webhooks::{Endpoint, OutboundMessage, Secret};
use form::{Webhook, WebhookBody, WebhookTest, Webhooks};

fn name(text: &str) -> Result<WebhookName, Problem> {
    WebhookName::parse(text).map_err(|error| Problem::with(Code::InvalidWebhook, error.to_string()))
}

problems!(ListWebhooksProblems: MissingToken InvalidToken ExpiredToken ServerOnly NotFound Overloaded Unavailable);

/// List webhooks
///
/// All webhooks, with their delivery state. Where operators have a listener of their own, ask there. Right:
/// server key.
#[utoipa::path(
    tag = "webhooks",
    responses((status = 200, description = "The webhooks.", body = Webhooks), ListWebhooksProblems),
    security(("server_key" = []))
)]
#[get("/v1/webhooks")]
pub async fn list_webhooks(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
    caller: Caller,
) -> Result<web::Json<Webhooks>, Problem> {
    audience.must_be_operators()?;
    caller.must_be_server()?;
    let found = service.store.read(|store| async move { store.webhooks(None).await }).await?;
    Ok(web::Json(Webhooks::of(found)))
}

problems!(GetWebhookProblems: InvalidWebhook MissingToken InvalidToken ExpiredToken ServerOnly WebhookNotFound NotFound
    Overloaded Unavailable);

/// Get a webhook
///
/// Its settings and its delivery state: its lag, the last error, when the retry is due. Never its secrets.
/// Where operators have a listener of their own, ask there. Right: server key.
#[utoipa::path(
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook.", example = "crm", max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 200, description = "The webhook.", body = Webhook), GetWebhookProblems),
    security(("server_key" = []))
)]
#[get("/v1/webhooks/{name}")]
pub async fn get_webhook(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
    caller: Caller,
    path: web::Path<String>,
) -> Result<web::Json<Webhook>, Problem> {
    audience.must_be_operators()?;
    caller.must_be_server()?;
    let name = name(&path)?;
    let found = service.store.read(move |store| async move { store.webhooks(Some(&name)).await }).await?;
    let stored = found.into_iter().next().ok_or(Code::WebhookNotFound)?;
    Ok(web::Json(Webhook::of(stored, None)))
}

problems!(PutWebhookProblems: InvalidJson InvalidBody InvalidWebhook MissingToken InvalidToken ExpiredToken ServerOnly NotFound
    TooManyWebhooks BodyTimeout BodyTooLarge UnsupportedType Overloaded Unavailable OutcomeUnknown);

/// Make or change a webhook
///
/// An upsert. A new webhook receives events that are committed from then on. A change, even one that changes
/// nothing, resets the backoff: the next attempt is made immediately. Pending events go to the new address.
/// For a new webhook without `secrets` a secret is made, which only this answer tells. Where operators have a
/// listener of their own, ask there. Right: server key.
#[utoipa::path(
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook.", example = "crm", max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = WebhookBody,
    responses(
        (status = 200, description = "Changed.", body = Webhook),
        (status = 201, description = "Created.", body = Webhook),
        PutWebhookProblems
    ),
    security(("server_key" = []))
)]
#[put("/v1/webhooks/{name}")]
pub async fn put_webhook(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
    caller: Caller,
    path: web::Path<String>,
    Body(body): Body<WebhookBody>,
) -> Result<HttpResponse, Problem> {
    audience.must_be_operators()?;
    caller.must_be_server()?;
    let name = name(&path)?;
    let (setup, given) = body.check(&service)?;
    let made = Secret::random();
    let tell = given.is_none();
    let secrets = Secrets { given, made: made.clone() };
    let (put, stored) = service.commands.put_webhook(name, setup, secrets).await?;
    let stored = stored.filter(|_| put != Put::Full).ok_or(Code::TooManyWebhooks)?;
    Ok(match put {
        Put::Created => HttpResponse::Created().json(Webhook::of(stored, tell.then_some(&made))),
        _ => HttpResponse::Ok().json(Webhook::of(stored, None)),
    })
}

problems!(DeleteWebhookProblems: InvalidWebhook MissingToken InvalidToken ExpiredToken ServerOnly WebhookNotFound NotFound
    Overloaded Unavailable OutcomeUnknown);

/// Delete a webhook
///
/// Deletes the webhook and its pending events. A message that is under way may still arrive. Where operators
/// have a listener of their own, ask there. Right: server key.
#[utoipa::path(
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook.", example = "crm", max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 204, description = "Deleted."), DeleteWebhookProblems),
    security(("server_key" = []))
)]
#[delete("/v1/webhooks/{name}")]
pub async fn delete_webhook(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
    caller: Caller,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    audience.must_be_operators()?;
    caller.must_be_server()?;
    match service.commands.delete_webhook(name(&path)?).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(Code::WebhookNotFound.into()),
    }
}

problems!(TestWebhookProblems: InvalidBody InvalidWebhook MissingToken InvalidToken ExpiredToken ServerOnly WebhookNotFound
    NotFound BodyTimeout BodyTooLarge Overloaded Unavailable);

/// Test a webhook
///
/// Sends a signed message of type `webhook.test` from the replica that is asked, without retries, and waits
/// up to 10 s for the receiver's answer. A disabled webhook can be tested too. Where operators have a
/// listener of their own, ask there. Right: server key.
#[utoipa::path(
    tag = "webhooks",
    params(("name" = String, Path, description = "The webhook.", example = "crm", max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 200, description = "The result.", body = WebhookTest), TestWebhookProblems),
    security(("server_key" = []))
)]
#[post("/v1/webhooks/{name}/test")]
pub async fn test_webhook(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
    caller: Caller,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<web::Json<WebhookTest>, Problem> {
    read(payload.into_inner(), BODY_MAX).await?; // left unread, it costs the client its connection
    audience.must_be_operators()?;
    caller.must_be_server()?;
    let name = name(&path)?;
    let found = service.store.detached(move |store| async move {
        Ok((store.webhook_target(&name).await?, store.webhooks(Some(&name)).await?.pop()))
    });
    let (Some(stored_target), Some(stored)) = found.await? else {
        return Err(Code::WebhookNotFound.into());
    };
    let data = format!(r#"{{"webhook":"{}"}}"#, stored.name);
    let message = OutboundMessage::new(Uuid::new_v4(), stored.now, "webhook.test", stored.now, &data);
    let from = std::time::Instant::now();
    let error = match Endpoint::parse(&stored_target.url, &stored_target.secrets, service.webhooks.plain) {
        Ok(target) => {
            service.webhooks.sender.send(&target, message).await.err().map(|error| error.to_string())
        }
        Err(error) => Some(error.to_string()),
    };
    Ok(web::Json(WebhookTest::of(error, from.elapsed())))
}
