//! The write rules of headcount on plain maps, for recordings that need no database; with bugs to choose from.
//! Times are microseconds on the run's clock.

use std::collections::BTreeMap;

use crate::recording::{Cursor, EventKind, LoggedEvent, Membership, Outcome, Reason, RosterAtRest};

/// What the database's clock adds to the run's.
pub const OFFSET_US: i64 = 1_700_000_000_000_000;

pub const LEASE_US: u64 = 4_000_000;
pub const SWEEP_US: u64 = 500_000;
pub const GRACE_US: u64 = 1_000_000;

/// What is wrong with a simulated service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Some writes are acked and forgotten.
    AcksLost,
    /// Some writes are done a second after they are acked.
    AcksEarly,
    /// The sweep takes a quarter of the lease.
    LeasesShort,
    /// The sweep does not know of the outage rule.
    OutagesIgnored,
    /// Nobody sweeps.
    SweepsMissing,
    /// A heartbeat brings back what was swept or left.
    Resurrection,
    /// Closing one tab makes the user leave.
    TabsLeave,
    /// Opening another tab is another joined.
    TabsJoin,
    /// A leave with grace does not wait.
    GraceIgnored,
    /// A stream leaves out what happened between two frames, now and then.
    FramesSkipped,
    /// A stream tells old news again, now and then.
    FramesRepeated,
    /// A resumed stream leaves out the first event it missed.
    ReplaysPartial,
    /// Every resumed stream gets everything, without a true reason.
    ReplaysNever,
    /// A stream is three seconds late, now and then.
    StreamsSlow,
    /// Rosters are half a second old.
    RostersStale,
}

#[derive(Clone)]
pub struct Database {
    pub epoch: String,
    pub log: BTreeMap<String, Vec<LoggedEvent>>,
    pub bug: Option<Bug>,
    sessions: BTreeMap<String, (String, u64)>,
    rows: BTreeMap<(String, String, String), Row>,
    swept_at: u64,
    leases_from: u64,
}

#[derive(Clone, Default)]
struct Row {
    state: Option<String>,
    changed: u64,
    leaving: Option<u64>,
}

/// Which membership.
#[derive(Clone, Debug)]
pub struct Key {
    pub room: String,
    pub user: String,
    pub session: String,
}

impl Database {
    pub fn new(rooms: &[String], bug: Option<Bug>) -> Self {
        let log = rooms.iter().map(|room| (room.clone(), Vec::new())).collect();
        let (sessions, rows) = (BTreeMap::new(), BTreeMap::new());
        Self { epoch: "aa".to_owned(), log, bug, sessions, rows, swept_at: 0, leases_from: 0 }
    }

    pub fn cursor(&self, room: &str) -> Cursor {
        Cursor { epoch: self.epoch.clone(), version: self.log[room].last().map_or(0, |event| event.version) }
    }

    pub fn join(&mut self, now: u64, key: &Key, state: Option<&str>) -> Outcome {
        let again = self.state(key).is_some() && !self.rows.contains_key(&key.tuple());
        let created = self.state(key).is_none();
        self.change(now, std::slice::from_ref(key), Reason::Left, |db| {
            db.sessions.insert(key.session.clone(), (key.user.clone(), now));
            let row = db.rows.entry(key.tuple()).or_default();
            row.leaving = None;
            if let Some(state) = state {
                (row.state, row.changed) = (Some(state.to_owned()), now);
            }
        });
        if again && self.bug == Some(Bug::TabsJoin) {
            self.append(now, key, EventKind::Joined, None);
        }
        Outcome::Ok { cursor: self.cursor(&key.room), created, member: true }
    }

    pub fn update(&mut self, now: u64, key: &Key, state: Option<&str>) -> Outcome {
        if !self.rows.contains_key(&key.tuple()) {
            return Outcome::Problem { status: 404, code: "session_not_found".to_owned() };
        }
        let leaving = self.rows[&key.tuple()].leaving; // only a join takes a leave with grace back
        let outcome = self.join(now, key, state);
        self.rows.get_mut(&key.tuple()).unwrap().leaving = leaving;
        outcome
    }

    pub fn leave(&mut self, now: u64, key: &Key, grace: bool) -> Outcome {
        if grace && self.bug != Some(Bug::GraceIgnored) {
            if let Some(row) = self.rows.get_mut(&key.tuple()) {
                row.leaving = Some(now + GRACE_US);
            }
        } else if self.bug == Some(Bug::TabsLeave) && self.rows.contains_key(&key.tuple()) {
            self.end(now, &self.of_user(&key.room, &key.user), Reason::Left);
        } else if self.rows.contains_key(&key.tuple()) {
            self.end(now, std::slice::from_ref(key), Reason::Left);
        }
        Outcome::Ok { cursor: self.cursor(&key.room), created: false, member: false }
    }

    pub fn kick(&mut self, now: u64, room: &str, user: &str) -> Outcome {
        self.end(now, &self.of_user(room, user), Reason::Kicked);
        Outcome::Ok { cursor: self.cursor(room), created: false, member: false }
    }

    /// `known` are the rooms that a resurrection would bring back.
    pub fn heartbeat(&mut self, now: u64, user: &str, session: &str, known: &[Key]) -> Outcome {
        if !self.sessions.contains_key(session) && self.bug == Some(Bug::Resurrection) {
            known.iter().for_each(|key| drop(self.join(now, key, None)));
        }
        match self.sessions.get_mut(session) {
            Some((owner, last_seen)) if owner == user => {
                *last_seen = now;
                Outcome::Alive
            }
            _ => Outcome::Gone,
        }
    }

    pub fn sweep(&mut self, now: u64) {
        if now - self.swept_at > 3 * SWEEP_US && self.bug != Some(Bug::OutagesIgnored) {
            self.leases_from = now;
        }
        self.swept_at = now;
        let lease = if self.bug == Some(Bug::LeasesShort) { LEASE_US / 4 } else { LEASE_US };
        let silent = |session: &str| self.sessions[session].1.max(self.leases_from) + lease < now;
        let keys = self.rows.keys().map(Key::of);
        let (expired, others): (Vec<Key>, Vec<Key>) = keys.partition(|key| silent(&key.session));
        let over = |key: &Key| self.rows[&key.tuple()].leaving.is_some_and(|at| at <= now);
        let leaving: Vec<Key> = others.into_iter().filter(over).collect();
        if self.bug != Some(Bug::SweepsMissing) {
            self.end(now, &leaving, Reason::Left);
            self.end(now, &expired, Reason::Expired);
        }
    }

    pub fn members(&self, room: &str) -> Vec<String> {
        let mut users: Vec<String> = self.rows.keys().filter(|k| k.0 == room).map(|k| k.1.clone()).collect();
        users.dedup();
        users
    }

    pub fn presence(&self) -> Vec<Membership> {
        let rows = self.rows.keys().cloned();
        rows.map(|(room, user, session)| Membership { room, user, session }).collect()
    }

    pub fn rosters(&self) -> Vec<RosterAtRest> {
        let roster = |room: &String| RosterAtRest {
            room: room.clone(),
            cursor: self.cursor(room),
            members: self.members(room),
        };
        self.log.keys().map(roster).collect()
    }

    fn end(&mut self, now: u64, keys: &[Key], reason: Reason) {
        self.change(now, keys, reason, |db| {
            keys.iter().for_each(|key| drop(db.rows.remove(&key.tuple())));
            let rows = &db.rows;
            db.sessions.retain(|session, _| rows.keys().any(|key| key.2 == *session));
        });
    }

    fn of_user(&self, room: &str, user: &str) -> Vec<Key> {
        self.rows.keys().filter(|key| key.0 == room && key.1 == user).map(Key::of).collect()
    }

    /// The member's state: the newest that a session set. None when they are nobody.
    fn state(&self, key: &Key) -> Option<String> {
        let rows = self.rows.iter().filter(|(k, _)| k.0 == key.room && k.1 == key.user).map(|(_, row)| row);
        let newest = rows.max_by_key(|row| (row.state.is_some(), row.changed))?;
        Some(newest.state.clone().unwrap_or_else(|| "{}".to_owned()))
    }

    fn change(&mut self, now: u64, keys: &[Key], reason: Reason, change: impl FnOnce(&mut Self)) {
        let before: Vec<_> = keys.iter().map(|key| self.state(key)).collect();
        change(self);
        for (key, before) in keys.iter().zip(before) {
            let told = self.log[&key.room].iter().rfind(|event| event.user == key.user);
            let told = told.filter(|event| event.kind != EventKind::Left).is_some();
            match (before, self.state(key)) {
                (None, Some(_)) => self.append(now, key, EventKind::Joined, None),
                (Some(before), Some(after)) if before != after => {
                    self.append(now, key, EventKind::Updated, None);
                }
                // Two sessions of a user that end together are one left.
                (Some(_), None) if told => self.append(now, key, EventKind::Left, Some(reason)),
                _ => {}
            }
        }
    }

    fn append(&mut self, now: u64, key: &Key, kind: EventKind, reason: Option<Reason>) {
        let (version, state) = (self.cursor(&key.room).version + 1, self.state(key));
        let at_us = i64::try_from(now).unwrap() + OFFSET_US;
        let (room, user) = (key.room.clone(), key.user.clone());
        let event = LoggedEvent { room, version, kind, user, reason, state, at_us };
        self.log.get_mut(&key.room).unwrap().push(event);
    }
}

impl Key {
    fn tuple(&self) -> (String, String, String) {
        (self.room.clone(), self.user.clone(), self.session.clone())
    }

    fn of((room, user, session): &(String, String, String)) -> Self {
        Self { room: room.clone(), user: user.clone(), session: session.clone() }
    }
}
