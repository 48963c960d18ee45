//! One watched room: its cached state, its waiting watchers, and when its next frame may go out. Plain state.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::frame::{self, Frame, LISTED_MAX, Mode, Modes, Seen, Wire};
use super::messages::{Opening, WorkerId};
use crate::domain::cursor::Cursor;
use crate::domain::event::Diff;
use crate::domain::id::RoomId;
use crate::domain::resume::{Plan, SnapshotReason, plan};
use crate::domain::room_settings::RoomSettings;
use crate::domain::roster::Roster;
use crate::store::events::Tail;

/// A watcher that waits for its first frame.
pub(super) struct Waiting {
    pub(super) mode: Mode,
    pub(super) last: Option<Cursor>,
    pub(super) since: Instant,
    pub(super) reply: oneshot::Sender<Opening>,
}

/// The cached state of a room, once it has been read.
pub(super) struct Known {
    pub(super) cursor: Cursor,
    pub(super) roster: Roster,
}

impl Known {
    fn seen(&self, settings: &RoomSettings) -> Seen<'_> {
        Seen { cursor: &self.cursor, roster: &self.roster, list_max: list_max(settings) }
    }
}

fn list_max(settings: &RoomSettings) -> usize {
    settings.list_max.map_or(LISTED_MAX, |max| max.min(LISTED_MAX))
}

pub(super) struct WatchedRoom {
    pub(super) id: RoomId,
    pub(super) known: Option<Known>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) watchers: HashMap<WorkerId, usize>,
    /// Throttle: before this time the room is not read and no frame is published.
    pub(super) due_at: Instant,
    pub(super) number: u64,
    pub(super) settings: RoomSettings,
    modes: Modes,
    /// Whether the last read found a row that it did not understand.
    unreadable: bool,
}

impl WatchedRoom {
    pub(super) fn new(id: RoomId, settings: RoomSettings, now: Instant) -> Self {
        let (watchers, modes) = (HashMap::new(), Modes::default());
        let waiting = Vec::new();
        Self {
            id,
            known: None,
            waiting,
            watchers,
            due_at: now,
            number: 0,
            settings,
            modes,
            unreadable: false,
        }
    }

    pub(super) fn wait(&mut self, worker: WorkerId, waiting: Waiting) {
        self.modes.add(waiting.mode);
        *self.watchers.entry(worker).or_default() += 1;
        self.waiting.push(waiting);
    }

    /// Removes watchers of a worker. Returns whether the room has any left.
    pub(super) fn forget(&mut self, worker: WorkerId, watchers: usize) -> bool {
        if let Some(left) = self.watchers.get_mut(&worker) {
            *left = left.saturating_sub(watchers);
            if *left == 0 {
                self.watchers.remove(&worker);
            }
        }
        !self.watchers.is_empty()
    }

    /// Cursors of waiting watchers that need a replay, when the room is at `head`.
    pub(super) fn replays(&self, head: &Cursor) -> Vec<Cursor> {
        let mut cursors: Vec<Cursor> = self
            .waiting
            .iter()
            .filter_map(|w| w.last.clone())
            .filter(|last| plan(Some(last), head) == Plan::Replay)
            .collect();
        cursors.sort_by_key(|c| c.version);
        cursors.dedup();
        cursors
    }

    /// Applies the log's tail after `known`, and coalesces it into one frame. None if the tail is incomplete:
    /// the room must be reread whole.
    pub(super) fn advance(&mut self, tail: &Tail) -> Option<Frame> {
        let known = self.known.as_mut()?;
        if !tail.complete {
            return None;
        }
        tail.events.iter().for_each(|event| known.roster.apply(event));
        known.cursor = tail.head.clone();
        self.number += 1;
        let diff = Diff::fold(&tail.events);
        let seen = Seen { cursor: &known.cursor, roster: &known.roster, list_max: list_max(&self.settings) };
        if seen.is_too_much(&diff) {
            return Some(Frame::restart(&self.id, &seen, SnapshotReason::TooMuch, self.modes));
        }
        Some(Frame::diff(&self.id, &seen, &diff, self.modes))
    }

    /// Replaces the cached state. The frame is a snapshot.
    pub(super) fn restart(&mut self, cursor: Cursor, roster: Roster) -> Frame {
        let same_history = self
            .known
            .as_ref()
            .is_none_or(|k| k.cursor.epoch == cursor.epoch && k.cursor.version <= cursor.version);
        let reason = if same_history { SnapshotReason::TooOld } else { SnapshotReason::Epoch };
        self.number += 1;
        let seen = Seen { cursor: &cursor, roster: &roster, list_max: list_max(&self.settings) };
        let frame = Frame::restart(&self.id, &seen, reason, self.modes);
        self.known = Some(Known { cursor, roster });
        frame
    }

    /// Answers all waiting watchers. `replays` holds the tail after each cursor of [`WatchedRoom::replays`].
    pub(super) fn answer_waiting(&mut self, replays: &HashMap<i64, &Tail>) {
        let Some(known) = &self.known else { return };
        let seen = known.seen(&self.settings);
        let mut encoded: Vec<First> = Vec::new(); // a cache: a storm of returning watchers has few cursors
        for Waiting { mode, last, reply, .. } in self.waiting.drain(..) {
            let wire = match encoded.iter().find(|first| first.mode == mode && first.last == last) {
                Some(first) => first.wire.clone(),
                None => {
                    let wire = first_frame(&self.id, &seen, mode, last.as_ref(), replays);
                    encoded.push(First { mode, last, wire: wire.clone() });
                    wire
                }
            };
            let opening = Opening { first: wire, cursor: known.cursor.clone(), number: self.number };
            let _ = reply.send(opening); // a watcher that went away is forgotten by its fan
        }
    }

    /// Answers waiting watchers from the cache, while the log cannot be read: those without a cursor, and
    /// those at exactly the cached position. A watcher that would miss something, or has seen more than the
    /// cache has, goes on waiting.
    pub(super) fn answer_stale(&mut self) {
        let Some(known) = &self.known else { return };
        let seen = known.seen(&self.settings);
        let can = |waiting: &mut Waiting| waiting.last.as_ref().is_none_or(|last| *last == known.cursor);
        for Waiting { mode, last, reply, .. } in self.waiting.extract_if(.., can) {
            let first = first_frame(&self.id, &seen, mode, last.as_ref(), &HashMap::new());
            let opening = Opening { first, cursor: known.cursor.clone(), number: self.number };
            let _ = reply.send(opening); // a watcher that went away is forgotten by its fan
        }
    }

    /// Notes that the room cannot be read: waiting watchers are answered from the cache or refused, and those that are
    /// answered already keep what they have. Returns whether this is new.
    pub(super) fn cannot_be_read(&mut self) -> bool {
        self.answer_stale();
        self.waiting.clear(); // dropping the reply refuses
        !std::mem::replace(&mut self.unreadable, true)
    }

    /// Notes that the room can be read. Returns whether this is new.
    pub(super) fn can_be_read(&mut self) -> bool {
        std::mem::take(&mut self.unreadable)
    }

    /// The least time between two frames of a room: a rate limit, so that a busy large room costs its
    /// watchers a bounded rate.
    pub(super) fn spacing(&self) -> Duration {
        let by_size = match self.known.as_ref().map_or(0, |known| known.roster.len()) {
            0..=100 => Duration::from_millis(20),
            101..=1000 => Duration::from_millis(250),
            _ => Duration::from_secs(1),
        };
        self.settings.spacing.unwrap_or(by_size)
    }
}

/// The first frame for watchers in this mode with this cursor.
struct First {
    mode: Mode,
    last: Option<Cursor>,
    wire: Option<Wire>,
}

fn first_frame(
    room: &RoomId,
    seen: &Seen<'_>,
    mode: Mode,
    last: Option<&Cursor>,
    replays: &HashMap<i64, &Tail>,
) -> Option<Wire> {
    let whole = |reason| Some(frame::opening(room, seen, mode, reason));
    match plan(last, seen.cursor) {
        Plan::Nothing => None,
        Plan::Snapshot(reason) => whole(reason),
        Plan::Replay if mode != Mode::Diff => whole(SnapshotReason::Initial),
        Plan::Replay => match last.and_then(|last| replays.get(&last.version)) {
            Some(tail) if tail.complete && tail.head == *seen.cursor => {
                let diff = Diff::fold(&tail.events);
                if seen.is_too_much(&diff) {
                    return whole(SnapshotReason::TooMuch);
                }
                Some(frame::missed(room, seen, &diff))
            }
            _ => whole(SnapshotReason::TooOld),
        },
    }
}
