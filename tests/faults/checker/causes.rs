//! P1 and P3 the other way round: nothing is in the log that nobody asked for. An expiry has no request; the
//! leases are its cause (see `leases`).

use std::time::Duration;

use serde_json::Value;

use super::super::recording::{EventKind, Kind, Outcome, Reason};
use super::faults::Faults;
use super::indexed::{Effect, Indexed, Op, state};
use super::room::{Entry, Room};
use super::{Found, Promise};

pub fn every_event_has_one(run: &Indexed<'_>, faults: &Faults<'_>, found: &mut Found) {
    for room in run.rooms.values() {
        for entry in &room.log {
            let event = entry.event;
            let caused = run.of_member(room.name, &event.user).any(|op| match (event.kind, event.reason) {
                (EventKind::Joined, _) => made_a_member(op, entry, faults),
                (EventKind::Left, Some(Reason::Left)) => ended(run, faults, op, entry),
                (EventKind::Left, Some(Reason::Kicked)) => {
                    op.is(Kind::Kick) && op.may_meet(entry.lo, entry.hi)
                }
                (EventKind::Left, _) | (EventKind::Updated, _) => true,
            });
            if !caused {
                let text =
                    format!("nobody asked for version {}: {:?} {}", event.version, event.kind, event.user);
                found.add(Promise::P3OneJoinOneLeave, entry.hi, room.name, text);
            }
        }
        states_were_asked_for(run, room, found);
    }
}

/// A join that was answered `created: false` makes a member only when the first try of it was cut off.
fn made_a_member(op: &Op<'_>, entry: &Entry<'_>, faults: &Faults<'_>) -> bool {
    let fits = match op.outcome {
        Outcome::Ok { cursor, created, .. } => {
            let in_time = op.effect != Effect::Done || entry.event.version <= cursor.version;
            in_time && (*created || faults.meet(op.from, op.to))
        }
        _ => true,
    };
    fits && op.is(Kind::Join) && op.may_meet(entry.lo, entry.hi)
}

fn ended(run: &Indexed<'_>, faults: &Faults<'_>, op: &Op<'_>, entry: &Entry<'_>) -> bool {
    let waits = run.settings.clock_offset_us.map_or(Duration::ZERO, |_| run.settings.leave_grace);
    match op.asked.kind {
        Kind::Leave => op.may_meet(entry.lo, entry.hi),
        Kind::LeaveGrace => {
            let in_time = op.from + waits <= entry.hi && entry.lo <= faults.grace_due(op.to);
            op.effect != Effect::None && in_time
        }
        _ => false,
    }
}

/// A member's state is one that a session of theirs set before, or the empty one.
fn states_were_asked_for(run: &Indexed<'_>, room: &Room<'_>, found: &mut Found) {
    for user in room.users() {
        let may_set = run.of_member(room.name, user).filter(|op| op.effect != Effect::None);
        let set: Vec<(Duration, Value)> =
            may_set.filter_map(|op| Some((op.from, state(op.asked.state.as_deref())?))).collect();
        for entry in room.of_user(user) {
            let Some(state) = entry.event.state() else { continue };
            let known = set.iter().any(|(from, set)| *from <= entry.hi && *set == state);
            if !known && state != Value::Object(serde_json::Map::new()) {
                let text = format!("nobody set the state of version {}: {state}", entry.event.version);
                found.add(Promise::P1Acked, entry.hi, room.name, text);
            }
        }
    }
}
