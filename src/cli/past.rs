//! `headcount who --at`

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::client::{Client, PAGE, encoded};
use super::failure::Failure;
use super::format::{readable, rfc3339, word};
use super::out::Out;
use super::table::Table;
use crate::domain::id::RoomId;
use crate::domain::member::Status;

/// A member at a past time; what the log no longer has is none.
#[derive(Deserialize, Serialize)]
struct MemberRow {
    id: String,
    name: String,
    avatar_url: Option<String>,
    status: Option<Status>,
    state: Option<Box<RawValue>>,
    joined_at: Option<String>,
    exact: bool,
}

/// A page, or all of them.
#[derive(Deserialize, Serialize)]
struct RosterThen {
    room: String,
    at: String,
    cursor: String,
    count: i64,
    members: Vec<MemberRow>,
    #[serde(skip_serializing)]
    next: Option<String>,
}

/// Prints the members of the room at that time. The past does not change, so pages are consistent.
pub async fn run(
    client: &Client,
    room: &RoomId,
    at: OffsetDateTime,
    json: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    let path = format!("/v1/rooms/{room}/history/members?limit={PAGE}&at={}", encoded(&rfc3339(at)));
    let mut all: RosterThen = client.get(&path).await?;
    while let Some(after) = all.next.take() {
        let mut page: RosterThen = client.get(&format!("{path}&after={}", encoded(&after))).await?;
        all.members.append(&mut page.members);
        all.next = page.next;
    }
    if json {
        return out.json(&all);
    }
    let RosterThen { room, at, cursor, count, members, .. } = all;
    let noun = if count == 1 { "member" } else { "members" };
    out.line(&format!("{room} at {}: {count} {noun} (at {cursor})", readable(&at)))?;
    if members.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["USER", "NAME", "STATUS", "SINCE"]);
    for MemberRow { id, name, status, joined_at, .. } in members {
        let status = status.map_or("?", word).to_owned();
        table.row([id, name, status, joined_at.map_or_else(|| "?".to_owned(), |since| readable(&since))]);
    }
    table.lines().iter().try_for_each(|line| out.line(line))
}
