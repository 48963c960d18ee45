//! When a session may have been in a room: from a join until it certainly was out.
//!
//! A life begins when its join was asked. It ends when a leave, a kick or a `gone` that came after the join was
//! answered, when the log says that its user left, or when it was silent for longer than the sweep may need.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::recording::{EventKind, Kind, Outcome};
use super::faults::Faults;
use super::indexed::{Effect, Indexed, Op};
use super::room::{Entry, Room};

/// A session in a room, at most from `from` to `to`.
#[derive(Clone, Copy, Debug)]
pub struct Life<'a> {
    pub session: &'a str,
    pub room: &'a str,
    pub from: Duration,
    pub to: Duration,
}

#[derive(Default)]
pub struct Lives<'a> {
    of_member: BTreeMap<&'a str, BTreeMap<&'a str, Vec<Life<'a>>>>,
    of_session: BTreeMap<&'a str, Vec<Life<'a>>>,
}

impl<'a> Lives<'a> {
    pub fn of(run: &Indexed<'a>, faults: &Faults<'a>) -> Self {
        let mut lives = Self::default();
        for (session, ops) in run.sessions() {
            for join in ops.iter().filter(|op| op.is(Kind::Join) && op.effect != Effect::None) {
                let (room, user) = (join.asked.room.as_str(), join.asked.user.as_str());
                let to = last_breath(join, &ops, faults).min(end(run, join, &ops, faults));
                let life = Life { session, room, from: join.from, to };
                lives.of_member.entry(room).or_default().entry(user).or_default().push(life);
                lives.of_session.entry(session).or_default().push(life);
            }
        }
        let members = lives.of_member.values_mut().flat_map(BTreeMap::values_mut);
        members.for_each(|lives| lives.sort_by_key(|life| life.from));
        lives
    }

    /// A user's sessions in a room, by their begins.
    pub fn of_member(&self, room: &str, user: &str) -> &[Life<'a>] {
        let lives = self.of_member.get(room).and_then(|users| users.get(user));
        lives.map(Vec::as_slice).unwrap_or_default()
    }

    /// A session in its rooms.
    pub fn of_session(&self, session: &str) -> &[Life<'a>] {
        self.of_session.get(session).map(Vec::as_slice).unwrap_or_default()
    }
}

/// When the session was silent for too long: every sign that came while it may have lived gives it another lease.
fn last_breath(join: &Op<'_>, ops: &[&Op<'_>], faults: &Faults<'_>) -> Duration {
    let signs = ops.iter().filter(|op| op.from >= join.from && may_renew(op));
    signs.fold(faults.lease_due(join.to), |due, sign| {
        if sign.from <= due { due.max(faults.lease_due(sign.to)) } else { due }
    })
}

fn may_renew(op: &Op<'_>) -> bool {
    let renewing = matches!(op.asked.kind, Kind::Join | Kind::Update | Kind::Heartbeat);
    renewing && op.effect != Effect::None && *op.outcome != Outcome::Gone
}

/// When something after the join ended it.
fn end(run: &Indexed<'_>, join: &Op<'_>, ops: &[&Op<'_>], faults: &Faults<'_>) -> Duration {
    let (room, user) = (join.asked.room.as_str(), join.asked.user.as_str());
    let after = |op: &&Op<'_>| op.effect == Effect::Done && op.from >= join.to;
    let own = ops.iter().copied().filter(after).filter_map(|op| match op.asked.kind {
        Kind::Leave if op.asked.room == room => Some(op.to),
        Kind::LeaveGrace if op.asked.room == room => Some(faults.grace_due(op.to)),
        Kind::Heartbeat if *op.outcome == Outcome::Gone => Some(op.to),
        _ => None,
    });
    let kicks = run.of_member(room, user).filter(|op| op.is(Kind::Kick)).filter(after).map(|op| op.to);
    let left = run.rooms.get(room).and_then(|room| left_after(room, join)).map(|entry| entry.hi);
    own.chain(kicks).chain(left).min().unwrap_or(Duration::MAX)
}

/// The first `left` of the user that was certainly after the join.
fn left_after<'r, 'a>(room: &'r Room<'a>, join: &Op<'_>) -> Option<&'r Entry<'a>> {
    let acked_at = join.cursor().filter(|_| join.effect == Effect::Done).map(|cursor| cursor.version);
    room.of_user(&join.asked.user)
        .filter(|entry| entry.event.is(EventKind::Left))
        .find(|entry| entry.lo >= join.to || acked_at.is_some_and(|version| entry.event.version > version))
}
