//! `headcount kick`

use serde::Deserialize;
use serde_json::json;

use super::Failure;
use super::client::Client;
use super::out::Out;
use crate::settings::verbs::Kick;

#[derive(Deserialize)]
struct Kicked {
    cursor: String,
}

/// Removes the member. That nobody is there is what was wanted, too.
pub async fn run(wanted: Kick, out: &mut Out) -> Result<(), Failure> {
    let Kick { room, user, target } = wanted;
    let path = format!("/v1/rooms/{room}/kick");
    let Kicked { cursor } = Client::new(&target)?.post(&path, &json!({"user": user})).await?;
    out.line(&format!(
        "{user} is not in {room} (at {cursor}); they may join again while their token allows it"
    ))
}
