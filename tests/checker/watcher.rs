//! An imagined event stream, and the client that reads it and comes back.

use std::collections::BTreeSet;

use crate::database::{Bug, Database};
use crate::recording::{Cursor, EventKind, Frame, FrameEvent, What};

pub struct Watcher {
    pub room: String,
    client: String,
    /// Tells the whole list each time.
    lists: bool,
    stream: Option<u64>,
    /// Where the client is.
    last: Option<Cursor>,
    /// Where the stream is; none before its first frame.
    position: Option<Cursor>,
    came_with: Option<Cursor>,
    woken: bool,
}

impl Watcher {
    pub fn new(n: usize, room: &str) -> Self {
        let (last, position, came_with) = (None, None, None);
        let (room, client, lists) = (room.to_owned(), format!("watcher{n}"), n == 2 || n == 5);
        Self { room, client, lists, stream: None, last, position, came_with, woken: false }
    }

    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether it has news to wait for and does not wait for them yet.
    pub fn wakes(&mut self, head: &Cursor) -> bool {
        let wakes = !self.woken && self.position.as_ref().is_some_and(|position| position != head);
        self.woken |= wakes;
        wakes
    }

    pub fn open(&mut self, stream: u64, fresh: bool) -> What {
        let last = self.last.clone().filter(|_| !fresh);
        (self.stream, self.came_with, self.position) = (Some(stream), last.clone(), None);
        What::Opened { stream, client: self.client.clone(), room: self.room.clone(), last }
    }

    pub fn close(&mut self) -> What {
        self.position = None;
        What::Closed { stream: self.stream.take().unwrap() }
    }

    pub fn bye(&self) -> Frame {
        Frame { reason: Some("drain".to_owned()), ..self.frame(FrameEvent::Bye, None) }
    }

    /// What the stream says now. `mischief` is when a bug shows.
    pub fn tell(&mut self, db: &Database, first: bool, sync: bool, mischief: bool) -> Vec<Frame> {
        if self.stream.is_none() || self.position.is_none() != first {
            return Vec::new();
        }
        let shows = |bug| mischief && db.bug == Some(bug);
        let head = db.cursor(&self.room);
        self.woken &= sync;
        let from = if first { self.came_with.clone() } else { self.position.clone() };
        let mut frames = Vec::new();
        if shows(Bug::FramesSkipped) && !first && !sync {
            self.position = Some(head);
            return frames;
        }
        if from.as_ref() != Some(&head) && !sync {
            frames.push(self.change(db, from.as_ref(), &head, first));
        }
        if shows(Bug::FramesRepeated) && !first {
            frames.extend(frames.last().cloned());
        }
        if first && frames.is_empty() {
            frames.push(self.frame(FrameEvent::Sync, Some(&head)));
        }
        if sync {
            let position = self.position.clone().unwrap();
            frames.push(self.frame(FrameEvent::Sync, Some(&position)));
        } else {
            (self.position, self.last) = (Some(head.clone()), Some(head));
        }
        frames
    }

    fn change(&self, db: &Database, from: Option<&Cursor>, head: &Cursor, first: bool) -> Frame {
        let members = db.members(&self.room);
        if self.lists {
            return Frame { members, ..self.frame(FrameEvent::Presence, Some(head)) };
        }
        let whole = |reason: &str| {
            let reason = Some(reason.to_owned());
            Frame { members: members.clone(), reason, ..self.frame(FrameEvent::Snapshot, Some(head)) }
        };
        match from {
            None => whole("initial"),
            Some(from) if from.epoch != head.epoch || from.version > head.version => whole("epoch"),
            Some(_) if first && db.bug == Some(Bug::ReplaysNever) => whole("too_old"),
            Some(from) => {
                let skip = u64::from(first && db.bug == Some(Bug::ReplaysPartial));
                self.diff(db, from.version + skip, head)
            }
        }
    }

    /// By two rosters, unlike the checker, which looks at the first and the last event of each user.
    fn diff(&self, db: &Database, from: u64, head: &Cursor) -> Frame {
        let log = &db.log[&self.room];
        let fold = |to: u64| {
            let mut members = BTreeSet::new();
            for event in log.iter().filter(|event| event.version <= to) {
                match event.kind {
                    EventKind::Left => members.remove(&event.user),
                    _ => members.insert(event.user.clone()),
                };
            }
            members
        };
        let (before, after) = (fold(from), fold(head.version));
        let touched = log.iter().filter(|event| event.version > from).map(|event| event.user.clone());
        let touched: BTreeSet<String> = touched.collect();
        let both: BTreeSet<String> = before.intersection(&after).cloned().collect();
        Frame {
            joined: after.difference(&before).cloned().collect(),
            updated: both.intersection(&touched).cloned().collect(),
            left: before.difference(&after).cloned().collect(),
            ..self.frame(FrameEvent::Diff, Some(head))
        }
    }

    fn frame(&self, event: FrameEvent, cursor: Option<&Cursor>) -> Frame {
        let (stream, cursor) = (self.stream.unwrap_or_default(), cursor.cloned());
        let [members, joined, updated, left] = std::array::from_fn(|_| Vec::new());
        Frame { stream, event, cursor, members, joined, updated, left, reason: None }
    }
}
