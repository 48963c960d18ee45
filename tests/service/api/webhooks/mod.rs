//! Webhooks: setting them up, what they deliver, and how a receiver checks a message.

mod delivery;
mod recipe;
mod setup;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::deployment::{Client, PATIENCE};
use crate::support::receiver::Receiver;
use crate::wait;

pub const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Makes or changes the webhook `hook`.
pub async fn hook(server: &Client, receiver: &Receiver, fields: Value) -> Value {
    let mut body = json!({"url": receiver.url(), "secrets": [SECRET]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    server.send(Method::PUT, "/v1/webhooks/hook", &body).await.ok()
}

/// How it does.
pub async fn state(server: &Client) -> Value {
    server.get("/v1/webhooks/hook").await.ok()
}

/// Asks until it is so.
pub async fn until(server: &Client, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, PATIENCE, async || Some(state(server).await).filter(&so)).await
}
