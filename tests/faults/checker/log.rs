//! P3 and P4: what the log says by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::super::recording::{EventKind, Settings};
use super::indexed::Indexed;
use super::{Found, Promise};

/// P3: per room and user the log reads `(joined updated* left)*`, so nobody joins twice or leaves while away.
pub fn alternates(run: &Indexed<'_>, found: &mut Found) {
    for room in run.rooms.values() {
        for user in room.users() {
            let mut here = false;
            for entry in room.of_user(user) {
                let event = entry.event;
                if here == event.is(EventKind::Joined) {
                    let text = format!("{user} {:?} at version {}, here: {here}", event.kind, event.version);
                    found.add(Promise::P3OneJoinOneLeave, entry.hi, room.name, text);
                }
                if event.is(EventKind::Left) != event.reason.is_some() {
                    let text =
                        format!("version {} is {:?} for {:?}", event.version, event.kind, event.reason);
                    found.add(Promise::P3OneJoinOneLeave, entry.hi, room.name, text);
                }
                here = !event.is(EventKind::Left);
            }
        }
    }
}

/// P4: versions are 1..n, no gap, no repeat, and the room's own version is n. Their times do not go back: version
/// order is commit order; and they are within the run.
pub fn is_contiguous(run: &Indexed<'_>, found: &mut Found) {
    for room in run.rooms.values() {
        for (entry, expected) in room.log.iter().zip(1..) {
            if entry.event.version != expected {
                let text = format!("version {} where {expected} belongs", entry.event.version);
                found.add(Promise::P4ContiguousHistory, entry.hi, room.name, text);
                break;
            }
        }
        let Settings { clock_offset_us: Some(offset), clock_error, rest_at, .. } = run.settings else {
            continue;
        };
        let error = i64::try_from(clock_error.as_micros()).unwrap_or(i64::MAX);
        for entry in &room.log {
            if entry.event.at_us < offset.saturating_sub(error) || entry.lo > *rest_at {
                let text = format!("version {} is from before or after the run", entry.event.version);
                found.add(Promise::P4ContiguousHistory, entry.hi, room.name, text);
            }
        }
        for pair in room.log.windows(2) {
            if pair[1].hi < pair[0].lo {
                let text = format!("version {} is older than the one before it", pair[1].event.version);
                found.add(Promise::P4ContiguousHistory, pair[1].hi, room.name, text);
            }
        }
    }
}

/// P4: folding the log gives the roster, and so do the memberships.
pub fn folds_to_the_roster(run: &Indexed<'_>, found: &mut Found) {
    let at = run.settings.rest_at;
    let mut memberships: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in &run.recording.presence {
        memberships.entry(&row.room).or_default().insert(&row.user);
    }
    for room in run.rooms.values() {
        let fold = room.fold(u64::MAX);
        let present = memberships.remove(room.name).unwrap_or_default();
        if present != fold {
            let text = format!("the memberships are of {present:?}, the log says {fold:?}");
            found.add(Promise::P4ContiguousHistory, at, room.name, text);
        }
        let Some(rest) = room.rest else {
            if !room.log.is_empty() {
                found.add(Promise::P4ContiguousHistory, at, room.name, "a log without a roster".to_owned());
            }
            continue;
        };
        if rest.cursor.version != room.head() {
            let text = format!("the roster is at {}, the log at {}", rest.cursor.version, room.head());
            found.add(Promise::P4ContiguousHistory, at, room.name, text);
        }
        let members: BTreeSet<&str> = rest.members.iter().map(String::as_str).collect();
        if members != fold {
            let text = format!("the roster is {members:?}, the log says {fold:?}");
            found.add(Promise::P4ContiguousHistory, at, room.name, text);
        }
    }
    for (room, users) in memberships {
        found.add(Promise::P4ContiguousHistory, at, room, format!("{users:?} in a room without a log"));
    }
}
