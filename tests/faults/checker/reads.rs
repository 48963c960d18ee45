//! P2: whoever asks after something was seen, sees it too. P4: what is shown is what the log says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::recording::Outcome;
use super::indexed::{Indexed, Sighting};
use super::{Found, Promise};

/// P2: a roster asked, a stream opened or a write asked after anybody has seen a version is at or past it, in the
/// same epoch; after an answer of the last epoch nobody is answered from an older one. A roster marked stale is
/// excused.
pub fn see_what_was_seen(run: &Indexed<'_>, found: &mut Found) {
    let sightings = run.sightings();
    let mut epochs: BTreeMap<(&str, &str), Vec<&Sighting<'_>>> = BTreeMap::new();
    for sighting in &sightings {
        epochs.entry((sighting.room, &sighting.cursor.epoch)).or_default().push(sighting);
    }
    for ((room, epoch), seen) in &epochs {
        newer_is_not_older(room, seen, found);
        let last = run.rooms.get(room).map(|room| room.epoch);
        let newest = last.filter(|last| last != epoch).and_then(|last| epochs.get(&(*room, last)));
        if let Some(first) = newest.and_then(|newest| newest.first()) {
            for sighting in seen.iter().filter(|s| s.asked.is_some_and(|asked| asked > first.seen)) {
                let text = format!("answered from {} after {} was seen", sighting.cursor, first.cursor);
                found.add(Promise::P2ReadYourWrites, sighting.seen, room, text);
            }
        }
    }
}

/// `seen` is in the order of seeing.
fn newer_is_not_older(room: &str, seen: &[&Sighting<'_>], found: &mut Found) {
    let mut asked: Vec<(Duration, &Sighting<'_>)> =
        seen.iter().filter_map(|s| Some((s.asked?, *s))).collect();
    asked.sort_by_key(|(asked, _)| *asked);
    let (mut next, mut newest) = (0, 0);
    for (asked, sighting) in asked {
        while let Some(before) = seen.get(next).filter(|s| s.seen < asked) {
            newest = newest.max(before.cursor.version);
            next += 1;
        }
        if sighting.cursor.version < newest {
            let text = format!("answered at {} after {newest} had been seen", sighting.cursor);
            found.add(Promise::P2ReadYourWrites, sighting.seen, room, text);
        }
    }
}

/// P4: a roster's members are the log folded to its version, and nobody sees a version before it exists.
pub fn show_what_was_logged(run: &Indexed<'_>, found: &mut Found) {
    for op in &run.ops {
        let Outcome::Roster { cursor, members, .. } = op.outcome else { continue };
        let Some((room, true)) = run.room(&op.asked.room, cursor) else { continue };
        let members: BTreeSet<&str> = members.iter().map(String::as_str).collect();
        let fold = room.fold(cursor.version);
        if members != fold {
            let text = format!("a roster at {cursor} is {members:?}, the log says {fold:?}");
            found.add(Promise::P4ContiguousHistory, op.to, room.name, text);
        }
    }
    for sighting in run.sightings() {
        let Some((room, true)) = run.room(sighting.room, sighting.cursor) else { continue };
        let version = sighting.cursor.version;
        if version > 0 && room.entry(version).is_none_or(|entry| entry.lo > sighting.seen) {
            let text = format!("{} was seen before it was", sighting.cursor);
            found.add(Promise::P4ContiguousHistory, sighting.seen, room.name, text);
        }
    }
}
