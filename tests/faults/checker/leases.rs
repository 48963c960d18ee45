//! P7, P8 and P9: who beats stays, who is silent goes, and who is gone stays gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::recording::{EventKind, Kind, Membership, Outcome, Reason};
use super::faults::Faults;
use super::indexed::{Effect, Indexed, Op};
use super::lives::Lives;
use super::room::{Entry, Stay};
use super::{Found, Promise};

/// Between which times something happened, and at which version if the log tells of it.
#[derive(Clone, Copy)]
struct Moment {
    lo: Duration,
    hi: Duration,
    version: Option<u64>,
}

impl Moment {
    fn of(entry: &Entry<'_>) -> Self {
        Self { lo: entry.lo, hi: entry.hi, version: Some(entry.event.version) }
    }
}

/// P7: no `left {expired}`, no `left {left}`, no `gone` and no missing membership of a session that certainly was in
/// the room, with an acked sign of life that was asked for less than a lease before. It counts from the asking,
/// because the database cannot have heard of it earlier.
pub fn nobody_leaves_early(run: &Indexed<'_>, lives: &Lives<'_>, faults: &Faults<'_>, found: &mut Found) {
    let mut false_leaves = leases_ran_out(run, lives, faults, found);
    for (session, ops) in run.sessions() {
        let rooms: BTreeSet<&str> =
            ops.iter().filter(|op| op.is(Kind::Join)).map(|op| op.asked.room.as_str()).collect();
        for name in rooms {
            let Some(room) = run.rooms.get(name) else { continue };
            for entry in room.of_user(&ops[0].asked.user) {
                let (moment, version) = (Moment::of(entry), entry.event.version);
                let promise = match entry.event.reason {
                    Some(Reason::Expired) => Promise::P7NoFalseLeave,
                    Some(Reason::Left) => Promise::P3OneJoinOneLeave,
                    _ => continue,
                };
                if let Some(sign) = certain(run, name, &ops, moment) {
                    let text = format!("version {version}, but op {} of session {session}", sign.asked.op);
                    found.add(promise, entry.hi, name, text);
                    if promise == Promise::P7NoFalseLeave {
                        false_leaves.insert((name, version));
                    }
                }
            }
            found.summary.false_leaves += missed(run, name, session, &ops, found);
        }
    }
    found.summary.false_leaves += false_leaves.len();
}

/// For each expiry there is a session whose lease may have run out, also by the outage rule.
fn leases_ran_out<'a>(
    run: &Indexed<'a>,
    lives: &Lives<'a>,
    faults: &Faults<'_>,
    found: &mut Found,
) -> BTreeSet<(&'a str, u64)> {
    let sessions: BTreeMap<&str, Vec<&Op<'_>>> = run.sessions().collect();
    let mut false_leaves = BTreeSet::new();
    for room in run.rooms.values() {
        for entry in room.log.iter().filter(|entry| entry.event.reason == Some(Reason::Expired)) {
            let fresh =
                |op: &&Op<'_>| renewed(op) && op.to < entry.lo && op.from + run.settings.lease > entry.hi;
            let mut present = lives.of_member(room.name, &entry.event.user).iter();
            let ran_out = present.any(|life| {
                life.from <= entry.hi && life.to >= entry.lo && !sessions[life.session].iter().any(fresh)
            });
            let pardoned = faults.pardons(entry.hi).filter(|_| run.settings.clock_offset_us.is_some());
            if !ran_out || pardoned.is_some() {
                let version = entry.event.version;
                let text = format!("version {version}: no lease had run out; outage until {pardoned:?}");
                found.add(Promise::P7NoFalseLeave, entry.hi, room.name, text);
                false_leaves.insert((room.name, entry.event.version));
            }
        }
    }
    false_leaves
}

/// How often the session was not there though it must have been, without the log telling of it.
fn missed(run: &Indexed<'_>, room: &str, session: &str, ops: &[&Op<'_>], found: &mut Found) -> usize {
    let at = run.settings.rest_at;
    let gone = ops.iter().filter(|op| *op.outcome == Outcome::Gone).map(|op| (op.from, op.to));
    let missing = gone.chain((!run.is_there(room, session)).then_some((at, at)));
    let early = missing.filter_map(|(lo, hi)| {
        let sign = certain(run, room, ops, Moment { lo, hi, version: None })?;
        let text = format!("session {session} is not there, but op {}", sign.asked.op);
        found.add(Promise::P7NoFalseLeave, hi, room, text);
        Some(())
    });
    early.count()
}

/// The sign of life of a session that certainly was in this room, within its lease, until this moment.
fn certain<'r, 'a>(run: &Indexed<'a>, name: &str, ops: &[&'r Op<'a>], moment: Moment) -> Option<&'r Op<'a>> {
    let room = run.rooms.get(name)?;
    let before = |op: &Op<'_>| match moment.version {
        Some(version) => op.cursor().is_some_and(|cursor| cursor.version < version),
        None => op.to <= moment.lo,
    };
    let joined = |op: &&&Op<'_>| {
        op.is(Kind::Join) && op.asked.room == name && op.shows_member() && op.effect == Effect::Done
    };
    let join = ops.iter().rev().filter(joined).find(|op| before(op))?;
    let after = |op: &Op<'_>| op.effect != Effect::None && op.to >= join.from && op.from <= moment.hi;
    let left = ops.iter().any(|op| op.ends_membership() && op.asked.room == name && after(op));
    let user = join.asked.user.as_str();
    let kicked = run.of_member(name, user).any(|op| op.is(Kind::Kick) && after(op));
    let since = if join.created() { room.created_at(join)? } else { room.window(join).0 };
    let logged = room.of_user(user).any(|entry| {
        let until = moment.version.map_or(entry.lo <= moment.hi, |version| entry.event.version < version);
        entry.event.is(EventKind::Left) && entry.event.version > since && until
    });
    if left || kicked || logged {
        return None;
    }
    last_sign(ops, join, moment, run.settings.lease).filter(|sign| sign.from + run.settings.lease > moment.hi)
}

/// The last acked sign of life of the session that this join made. None when it may have been swept meanwhile and
/// made anew by a join elsewhere: then it is no longer in the room that the join was for.
fn last_sign<'r, 'a>(
    ops: &[&'r Op<'a>],
    join: &'r Op<'a>,
    moment: Moment,
    lease: Duration,
) -> Option<&'r Op<'a>> {
    let within = |op: &&&Op<'_>, from: Duration, to: Duration| op.to >= from && op.from <= to;
    let mut last = join;
    for sign in ops.iter().filter(|op| renewed(op) && op.from >= join.from && op.from <= moment.hi) {
        let swept = sign.to > last.from + lease;
        let mut joins = ops.iter().filter(|op| op.is(Kind::Join) && op.effect != Effect::None);
        if swept && joins.any(|op| within(&op, last.from, sign.to)) {
            return None;
        }
        last = sign;
    }
    let gone = |op: &&&Op<'_>| *op.outcome == Outcome::Gone && op.from < moment.lo;
    let gone = ops.iter().filter(gone).any(|op| within(&op, join.from, moment.lo));
    (!gone).then_some(last)
}

fn renewed(op: &Op<'_>) -> bool {
    let told = match op.asked.kind {
        Kind::Join | Kind::Update => op.shows_member(),
        Kind::Heartbeat => *op.outcome == Outcome::Alive,
        _ => false,
    };
    told && op.effect == Effect::Done
}

/// P8: at every moment of a membership some session of the user may have been alive there. One whose sessions all
/// left, or were silent for lease + sweep interval + 1 s, is a ghost. An outage gives one more lease, and the spread.
pub fn nobody_stays_late(run: &Indexed<'_>, lives: &Lives<'_>, found: &mut Found) {
    for room in run.rooms.values() {
        for Stay { user, joined, left } in room.stays() {
            let end = left.map_or(run.settings.rest_at, |left| left.lo);
            let mut covered = joined.hi;
            for life in lives.of_member(room.name, user).iter().filter(|life| life.to >= joined.lo) {
                if life.from > covered {
                    break;
                }
                covered = covered.max(life.to);
            }
            let alive =
                lives.of_member(room.name, user).iter().any(|l| l.from <= joined.hi && l.to >= joined.lo);
            if covered < end || !alive {
                let text = format!("{user}, a member since {:?}, is a ghost until {end:?}", joined.lo);
                found.add(Promise::P8NoGhost, covered, room.name, text);
            }
        }
    }
    for Membership { room, user, session } in &run.recording.presence {
        let lives = lives.of_session(session);
        if !lives.iter().any(|life| life.room == room && life.to >= run.settings.rest_at) {
            let text = format!("{user}'s session {session} is a ghost at rest");
            found.add(Promise::P8NoGhost, run.settings.rest_at, room, text);
        }
    }
}

/// P9: a heartbeat is answered `alive`, and an update is taken, only between a join and its leave or sweep.
pub fn nobody_comes_back(run: &Indexed<'_>, lives: &Lives<'_>, found: &mut Found) {
    for op in &run.ops {
        let lives = lives.of_session(&op.asked.session).iter();
        let mut lives = lives.filter(|life| life.from <= op.to && life.to >= op.from);
        let lived = match op.asked.kind {
            Kind::Heartbeat if *op.outcome == Outcome::Alive => lives.next().is_some(),
            Kind::Update if op.cursor().is_some() => lives.any(|life| life.room == op.asked.room),
            _ => true,
        };
        if !lived {
            let text = format!("op {}: session {} was gone, and lives", op.asked.op, op.asked.session);
            found.add(Promise::P9NoResurrection, op.to, &op.asked.room, text);
        }
    }
}
