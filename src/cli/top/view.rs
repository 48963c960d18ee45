//! Formats a poll as lines.

use std::time::Duration;

use time::OffsetDateTime;

use super::look::{Look, SECONDS, Second};
use crate::cli::format::clock;
use crate::cli::table::Table;

/// Heartbeats that the replica has answered.
const HEARTBEATS: &str = "headcount_heartbeats_total";

/// The lag of the replica's rosters, in events.
const LAG: &str = "headcount_version_lag_events";

/// The lines of a poll, with rates if there was a poll before.
pub fn lines(url: &str, now: &Look, before: Option<&Look>) -> Vec<String> {
    let overview = &now.overview;
    let mut lines = vec![
        format!("headcount at {url}, {} answers, {}", overview.here.name, clock(OffsetDateTime::now_utc())),
        format!(
            "rooms {}, members {}, sessions {}, watchers of this replica {}",
            overview.rooms, overview.members, overview.sessions, overview.here.watchers
        ),
        events(&overview.seconds),
        format!(
            "heartbeats/s {}, events not sent yet {} (this replica)",
            rate(before.and_then(|before| now.rate(before, HEARTBEATS))),
            now.metrics.total(LAG).map_or_else(|| "-".to_owned(), |lag| format!("{lag:.0}"))
        ),
        sweep(now),
    ];
    if overview.here.stale {
        lines.push("THE DATABASE IS AWAY: rosters may be out of date".into());
    }
    lines.push(String::new());
    lines.extend(replicas(now).lines());
    lines.push(String::new());
    lines.extend(rooms(now, before).lines());
    lines
}

fn events(seconds: &[Second]) -> String {
    let sum = |kind: fn(&Second) -> u64| seconds.iter().map(kind).sum::<u64>();
    let (joined, updated, left) = (sum(|s| s.joined), sum(|s| s.updated), sum(|s| s.left));
    let per_second =
        |events: u64| u32::try_from(events).map_or(f64::INFINITY, f64::from) / f64::from(SECONDS);
    format!(
        "events/s {:.1}: joined {:.1}, updated {:.1}, left {:.1}",
        per_second(joined + updated + left),
        per_second(joined),
        per_second(updated),
        per_second(left)
    )
}

fn sweep(now: &Look) -> String {
    let recovering =
        if now.overview.sweep.recovering { ", spreading departures after an outage" } else { "" };
    format!("last sweep {} ago{recovering}", age(now.overview.sweep.age_ms))
}

fn replicas(now: &Look) -> Table {
    let mut table = Table::new(&["REPLICA", ">CONNECTIONS", "LISTENS", ">HEARD"]);
    for replica in &now.overview.replicas {
        let listens = if replica.listening { "yes" } else { "NO" };
        let heard = format!("{} ago", age(replica.quiet_ms));
        table.row([replica.name.clone(), replica.connections.to_string(), listens.into(), heard]);
    }
    table
}

fn rooms(now: &Look, before: Option<&Look>) -> Table {
    let mut table = Table::new(&["ROOM", ">MEMBERS", ">CHANGES/S"]);
    for room in &now.overview.fullest {
        let changes = rate(before.and_then(|before| now.changes(before, &room.room)));
        table.row([room.room.clone(), room.count.to_string(), changes]);
    }
    table
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

fn age(ms: u64) -> String {
    if ms < 60_000 {
        return format!("{:.1} s", Duration::from_millis(ms).as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(ms / 1000)).to_string()
}
