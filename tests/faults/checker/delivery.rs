//! P1: what is in the log reaches every stream that is open on the room, in time.
//!
//! The clock runs from the commit, as the database noted it, or, where its clock is bent, from when anybody first
//! saw the version. A stream that closes before its time is up owes nothing: the next one begins past it (P2).

use std::time::Duration;

use super::faults::Faults;
use super::indexed::{Indexed, Stream};
use super::room::Room;
use super::{Found, Promise};

pub fn is_in_time(run: &Indexed<'_>, faults: &Faults<'_>, found: &mut Found) {
    let mut healthy = Vec::new();
    for stream in &run.streams {
        if let Some(room) = run.rooms.get(stream.room) {
            follow(run, faults, stream, room, &mut healthy, found);
        }
    }
    healthy.sort_unstable();
    let summary = &mut found.summary;
    summary.worst_latency_outside_faults = healthy.last().copied().unwrap_or_default();
    summary.p99_latency_outside_faults = healthy.get(healthy.len() * 99 / 100).copied().unwrap_or_default();
}

fn follow(
    run: &Indexed<'_>,
    faults: &Faults<'_>,
    stream: &Stream<'_>,
    room: &Room<'_>,
    healthy: &mut Vec<Duration>,
    found: &mut Found,
) {
    let settings = run.settings;
    let told = stream.frames.iter().filter_map(|(at, frame)| Some((*at, frame.cursor.as_ref()?.version)));
    let told: Vec<(Duration, u64)> = told.collect();
    let mut next = 0;
    for entry in room.log.iter().filter(|entry| entry.hi >= stream.opened) {
        // By time too: an older epoch may have had other events of these versions, which were lost.
        while told.get(next).is_some_and(|(at, version)| *version < entry.event.version || *at < entry.lo) {
            next += 1;
        }
        let arrived = told.get(next).map(|(at, _)| *at);
        let due = faults.delivery_due(entry.hi, stream.client);
        let end = stream.ended().unwrap_or(settings.rest_at);
        if let Some(at) = arrived {
            let latency = at.saturating_sub(entry.at);
            found.summary.deliveries += 1;
            found.summary.worst_latency = found.summary.worst_latency.max(latency);
            if due == entry.hi + settings.deliver_within {
                healthy.push(latency);
            }
        }
        if arrived.unwrap_or(end) > due {
            let (version, took) = (entry.event.version, arrived.map(|at| at.saturating_sub(entry.at)));
            let text = format!("{} got version {version} after {took:?}", stream.client);
            found.add(Promise::P1Delivered, due, room.name, text);
        }
    }
}
