//! `headcount kick`

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::arguments::{ServiceArgs, room, user};
use super::client::Client;
use super::failure::Failure;
use super::out::Out;
use crate::domain::id::{RoomId, UserId};

/// `headcount kick`
#[derive(Args, Debug)]
pub struct KickArgs {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// The user
    #[arg(value_parser = user)]
    pub user: UserId,
    /// Which service
    #[command(flatten)]
    pub target: ServiceArgs,
}

#[derive(Deserialize)]
struct KickAnswer {
    cursor: String,
}

/// Removes the member. Idempotent: succeeds if they are not there.
pub async fn run(wanted: KickArgs, out: &mut Out) -> Result<(), Failure> {
    let KickArgs { room, user, target } = wanted;
    let path = format!("/v1/rooms/{room}/kick");
    let KickAnswer { cursor } = Client::new(&target)?.post(&path, &json!({"user": user})).await?;
    out.line(&format!(
        "{user} is not in {room} (at {cursor}); they may join again while their token allows it"
    ))
}
