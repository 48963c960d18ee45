//! One room's log, with what was true at each version of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::recording::{EventKind, LoggedEvent, RosterAtRest};
use super::indexed::Op;

/// Versions between two rosters that are kept folded.
const FOLD_EVERY: usize = 64;

pub struct Room<'a> {
    pub name: &'a str,
    /// The last epoch; others came before a failover.
    pub epoch: &'a str,
    pub rest: Option<&'a RosterAtRest>,
    /// By version.
    pub log: Vec<Entry<'a>>,
    by_user: BTreeMap<&'a str, Vec<usize>>,
    folds: Vec<BTreeSet<&'a str>>,
}

/// An event, and between which times of the run it was committed.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub event: &'a LoggedEvent,
    /// The best guess.
    pub at: Duration,
    pub lo: Duration,
    pub hi: Duration,
}

/// A user's membership: from a joined to a left, or to the end.
pub struct Stay<'a> {
    pub user: &'a str,
    pub joined: Entry<'a>,
    pub left: Option<Entry<'a>>,
}

/// What a stretch of the log does to a roster, as a `diff` frame tells it.
#[derive(Debug, Default, PartialEq)]
pub struct Net<'a> {
    pub joined: BTreeSet<&'a str>,
    pub updated: BTreeSet<&'a str>,
    pub left: BTreeSet<&'a str>,
}

impl<'a> Room<'a> {
    pub fn new(name: &'a str, epoch: &'a str, rest: Option<&'a RosterAtRest>, log: Vec<Entry<'a>>) -> Self {
        let mut by_user: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let (mut folds, mut members) = (Vec::new(), BTreeSet::new());
        for (index, entry) in log.iter().enumerate() {
            if index % FOLD_EVERY == 0 {
                folds.push(members.clone());
            }
            apply(&mut members, entry.event);
            by_user.entry(&entry.event.user).or_default().push(index);
        }
        Self { name, epoch, rest, log, by_user, folds }
    }

    /// How many entries have at most this version.
    pub fn index(&self, version: u64) -> usize {
        self.log.partition_point(|entry| entry.event.version <= version)
    }

    /// The last version, 0 for none.
    pub fn head(&self) -> u64 {
        self.log.last().map_or(0, |entry| entry.event.version)
    }

    /// The entry of this version.
    pub fn entry(&self, version: u64) -> Option<&Entry<'a>> {
        self.log.get(self.index(version).checked_sub(1)?).filter(|e| e.event.version == version)
    }

    /// The members at this version.
    pub fn fold(&self, version: u64) -> BTreeSet<&'a str> {
        let index = self.index(version);
        let Some(near) = index.checked_sub(1).map(|last| last / FOLD_EVERY) else {
            return BTreeSet::new();
        };
        let mut members = self.folds[near].clone();
        self.log[near * FOLD_EVERY..index].iter().for_each(|entry| apply(&mut members, entry.event));
        members
    }

    /// What the versions after `after` up to `to` do. A user's first event tells whether they were there before,
    /// the last one whether they are there after.
    pub fn net(&self, after: u64, to: u64) -> Net<'a> {
        let (begin, end) = (self.index(after), self.index(to));
        let mut spans: BTreeMap<&str, (bool, EventKind)> = BTreeMap::new();
        for Entry { event, .. } in self.log.get(begin..end).unwrap_or_default() {
            let here_before = event.kind != EventKind::Joined;
            spans.entry(&event.user).or_insert((here_before, event.kind)).1 = event.kind;
        }
        let mut net = Net::default();
        for (user, (here_before, last)) in spans {
            match (here_before, last == EventKind::Left) {
                (false, false) => drop(net.joined.insert(user)),
                (true, false) => drop(net.updated.insert(user)),
                (true, true) => drop(net.left.insert(user)),
                (false, true) => {}
            }
        }
        net
    }

    /// A user's entries, oldest first.
    pub fn of_user(&self, user: &str) -> impl DoubleEndedIterator<Item = &Entry<'a>> {
        self.by_user.get(user).into_iter().flatten().map(|index| &self.log[*index])
    }

    /// What was last said of a user at each version of a range: one item for the begin, one for each event in it.
    pub fn told(&self, user: &str, from: u64, to: u64) -> Vec<Option<&'a LoggedEvent>> {
        let (earlier, within) = self.of_user_between(user, from, to);
        let before = earlier.last().map(|index| self.log[*index].event);
        std::iter::once(before).chain(within.iter().map(|index| Some(self.log[*index].event))).collect()
    }

    /// Where a user's entries up to the first version are, and those after it up to the second.
    fn of_user_between(&self, user: &str, from: u64, to: u64) -> (&[usize], &[usize]) {
        let indices = self.by_user.get(user).map_or(&[][..], Vec::as_slice);
        let upto = |version| indices.partition_point(|index| self.log[*index].event.version <= version);
        let (begin, end) = (upto(from), upto(to));
        (&indices[..begin], indices.get(begin..end).unwrap_or_default())
    }

    /// Everybody's memberships.
    pub fn stays(&self) -> Vec<Stay<'a>> {
        let mut stays = Vec::new();
        for (user, indices) in &self.by_user {
            let mut open: Option<Entry<'a>> = None;
            for entry in indices.iter().map(|index| self.log[*index]) {
                match entry.event.kind {
                    EventKind::Joined => drop(open.get_or_insert(entry)),
                    EventKind::Updated => {}
                    EventKind::Left => {
                        stays.extend(open.take().map(|joined| Stay { user, joined, left: Some(entry) }));
                    }
                }
            }
            stays.extend(open.map(|joined| Stay { user, joined, left: None }));
        }
        stays
    }

    /// The versions at which an acked request may have been done: it was after the first of them, and at or before
    /// the second. By the times of asking and of answering, and by the answer's cursor.
    pub fn window(&self, op: &Op<'_>) -> (u64, u64) {
        let version = |count: usize| count.checked_sub(1).map_or(0, |last| self.log[last].event.version);
        let before = version(self.log.partition_point(|entry| entry.hi < op.from));
        let latest = version(self.log.partition_point(|entry| entry.lo <= op.to));
        let latest = op.cursor().map_or(latest, |cursor| latest.min(cursor.version));
        (before.min(latest), latest)
    }

    /// The first `joined` that an acked join may have made.
    pub fn created_at(&self, op: &Op<'_>) -> Option<u64> {
        let (after, to) = self.window(op);
        let (_, within) = self.of_user_between(&op.asked.user, after, to);
        let mut events = within.iter().map(|index| self.log[*index].event);
        events.find(|event| event.kind == EventKind::Joined).map(|event| event.version)
    }

    /// Users that the log names.
    pub fn users(&self) -> impl Iterator<Item = &'a str> {
        self.by_user.keys().copied()
    }
}

fn apply<'a>(members: &mut BTreeSet<&'a str>, event: &'a LoggedEvent) {
    match event.kind {
        EventKind::Joined | EventKind::Updated => drop(members.insert(&event.user)),
        EventKind::Left => drop(members.remove(event.user.as_str())),
    }
}
