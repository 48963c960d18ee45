//! `headcount revoke`

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use super::arguments::{ServiceArgs, user};
use super::client::Client;
use super::failure::Failure;
use super::format::readable;
use super::out::Out;
use crate::domain::id::UserId;

/// `headcount revoke`
#[derive(Args, Debug)]
pub struct RevokeArgs {
    /// The user
    #[arg(value_parser = user)]
    pub user: UserId,
    /// Which service
    #[command(flatten)]
    pub target: ServiceArgs,
}

#[derive(Deserialize)]
struct RevokeAnswer {
    not_before: String,
}

/// Ends the user's sessions, and revokes their tokens. Idempotent.
pub async fn run(wanted: RevokeArgs, out: &mut Out) -> Result<(), Failure> {
    let RevokeArgs { user, target } = wanted;
    let id = utf8_percent_encode(user.as_str(), NON_ALPHANUMERIC);
    let path = format!("/v1/users/{id}/revoke");
    let RevokeAnswer { not_before } = Client::new(&target)?.post(&path, &json!({})).await?;
    out.line(&format!("{user} is in no room; tokens issued before {} are refused", readable(&not_before)))
}
