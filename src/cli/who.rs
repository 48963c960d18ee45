//! `headcount who`

use clap::Args;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::arguments::{ServiceArgs, moment, room};
use super::client::{Client, PAGE, encoded};
use super::failure::Failure;
use super::format::{self, shown};
use super::out::{self, Out};
use super::past;
use super::table::Table;
use crate::domain::id::RoomId;
use crate::domain::member::Member;

/// `headcount who`
#[derive(Args, Debug)]
pub struct WhoArgs {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// Print the members at a past time: a moment like 2026-11-24T12:00:00Z, or `15m` for so long ago
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub at: Option<OffsetDateTime>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: ServiceArgs,
}

/// A page of the roster.
#[derive(Deserialize)]
struct MembersPage {
    cursor: String,
    count: i64,
    members: Vec<Member>,
    next: Option<String>,
    #[serde(default)]
    stale: bool,
}

/// All pages.
#[derive(Serialize)]
struct WholeRoster {
    room: RoomId,
    /// The cursor of the first page: a stream resumed from here replays what changed while the other pages
    /// were read, and misses nothing.
    cursor: String,
    count: i64,
    members: Vec<Member>,
    stale: bool,
}

/// Prints the members of the room.
pub async fn run(wanted: WhoArgs, out: &mut Out) -> Result<(), Failure> {
    let client = Client::new(&wanted.target)?;
    if let Some(at) = wanted.at {
        return past::run(&client, &wanted.room, at, wanted.json, out).await;
    }
    let roster = read(&client, &wanted).await?;
    if wanted.json {
        return out.json(&roster);
    }
    if roster.stale {
        out::note("the service cannot reach its database; this is what it knew before");
    }
    let WholeRoster { room, cursor, count, members, .. } = roster;
    out.line(&format!("{room}: {count} {} (at {cursor})", if count == 1 { "member" } else { "members" }))?;
    if members.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["USER", "NAME", "STATUS", ">SESSIONS", "SINCE"]);
    for member in members {
        let (status, since) = (shown(&member), format::moment(member.joined_at));
        table.row([
            member.id.to_string(),
            member.name.to_string(),
            status,
            member.sessions.to_string(),
            since,
        ]);
    }
    table.lines().iter().try_for_each(|line| out.line(line))
}

async fn read(client: &Client, wanted: &WhoArgs) -> Result<WholeRoster, Failure> {
    let mut found = page(client, wanted, None).await?;
    let mut roster = WholeRoster {
        room: wanted.room.clone(),
        cursor: found.cursor,
        count: found.count,
        members: found.members,
        stale: found.stale,
    };
    while let Some(after) = found.next.take() {
        found = page(client, wanted, Some(&after)).await?;
        roster.count = found.count;
        roster.stale |= found.stale;
        roster.members.append(&mut found.members);
    }
    Ok(roster)
}

async fn page(client: &Client, wanted: &WhoArgs, after: Option<&str>) -> Result<MembersPage, Failure> {
    let room = &wanted.room;
    let mut path = format!("/v1/rooms/{room}?limit={PAGE}");
    if let Some(after) = after {
        path = format!("{path}&after={}", encoded(after));
    }
    Ok(client.get(&path).await?)
}
