//! `headcount kick`

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::arguments::{Target, room, user};
use super::client::Client;
use super::failure::Failure;
use super::out::Out;
use crate::domain::id::{RoomId, UserId};

/// `headcount kick`
#[derive(Args, Debug)]
pub struct Kick {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// Whom
    #[arg(value_parser = user)]
    pub user: UserId,
    /// Which service
    #[command(flatten)]
    pub target: Target,
}

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
