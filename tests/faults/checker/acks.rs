//! P1: what was acked happened, at a version that is not after the answer's cursor and while the request was under
//! way. Each answer is read as a claim about the log in that window.

use std::collections::{BTreeMap, HashSet};

use super::super::recording::{EventKind, Kind, LoggedEvent};
use super::indexed::{Effect, Indexed, Op, state};
use super::lives::Lives;
use super::room::Room;
use super::{Found, Promise};

pub fn are_in_the_log(run: &Indexed<'_>, lives: &Lives<'_>, found: &mut Found) {
    let made = made(run);
    for op in &run.ops {
        let Some(cursor) = op.cursor() else { continue };
        let Some((room, same_epoch)) = run.room(&op.asked.room, cursor) else {
            found.add(Promise::P1Acked, op.to, &op.asked.room, "an ack for a room without a log".to_owned());
            continue;
        };
        if same_epoch && op.effect != Effect::Done {
            continue; // overtaken by a newer seq: it may rightly have done nothing
        }
        let Some(missing) = missing(run, lives, room, op, &made) else { continue };
        if same_epoch {
            let (asked, window) = (op.asked, room.window(op));
            let text = format!("op {} {:?} of {}: {missing}, {window:?}", asked.op, asked.kind, asked.user);
            found.add(Promise::P1Acked, op.to, room.name, text);
        } else {
            found.summary.lost_at_failover.push(op.asked.op);
        }
    }
}

/// Joins that said `created`, each with a `joined` of its own. The one whose window ends first takes the first.
fn made(run: &Indexed<'_>) -> HashSet<u64> {
    let mut claims: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for op in run.ops.iter().filter(|op| op.created()) {
        if let Some(room) = run.rooms.get(op.asked.room.as_str()) {
            let (after, to) = room.window(op);
            claims.entry((room.name, op.asked.user.as_str())).or_default().push((to, after, op.asked.op));
        }
    }
    let mut made = HashSet::new();
    for ((room, user), mut claims) in claims {
        claims.sort_unstable();
        let joined = run.rooms[room].of_user(user).filter(|entry| entry.event.is(EventKind::Joined));
        let mut joined: Vec<u64> = joined.map(|entry| entry.event.version).collect();
        for (to, after, op) in claims {
            if let Some(index) = joined.iter().position(|version| *version > after && *version <= to) {
                joined.remove(index);
                made.insert(op);
            }
        }
    }
    made
}

/// What of an acked request is not in the log.
fn missing(
    run: &Indexed<'_>,
    lives: &Lives<'_>,
    room: &Room<'_>,
    op: &Op<'_>,
    made: &HashSet<u64>,
) -> Option<&'static str> {
    let (after, to) = room.window(op);
    let told = room.told(&op.asked.user, after, to);
    let here = |event: &Option<&LoggedEvent>| event.is_some_and(|event| !event.is(EventKind::Left));
    match op.asked.kind {
        Kind::Join if op.created() && !made.contains(&op.asked.op) => Some("no joined for it"),
        Kind::Join | Kind::Update if op.shows_member() => {
            if !told.iter().any(here) {
                Some("never a member")
            } else if !shows_state(run, op, &told) {
                Some("its state was never the member's")
            } else {
                None
            }
        }
        Kind::Leave if told.iter().all(here) && !another_session(lives, op) => Some("still a member"),
        Kind::Kick if told.iter().all(here) => Some("still a member"),
        _ => None,
    }
}

/// Among a user's states the newest counts, by the database's clock: one that is bent says nothing.
fn shows_state(run: &Indexed<'_>, op: &Op<'_>, told: &[Option<&LoggedEvent>]) -> bool {
    let Some(asked) = state(op.asked.state.as_deref()).filter(|_| run.settings.clock_offset_us.is_some())
    else {
        return true;
    };
    told.iter()
        .flatten()
        .any(|event| event.state().is_none_or(|state| state == asked) && event.kind != EventKind::Left)
}

/// Whether the user may be a member by what the leave did not end: another tab, or a join that came later.
fn another_session(lives: &Lives<'_>, leave: &Op<'_>) -> bool {
    lives.of_member(&leave.asked.room, &leave.asked.user).iter().any(|life| {
        let outlives =
            if life.session == leave.asked.session { life.to > leave.to } else { life.to >= leave.from };
        life.from <= leave.to && outlives
    })
}
