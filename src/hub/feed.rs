//! The task that reads watched rooms and publishes their frames.
//!
//! Bounded: it caches the rosters of rooms that have watchers, and of no others. Reads are batched: one
//! statement reads all rooms that are due, whatever woke the feed, so a storm of reconnects to one room is
//! coalesced into one read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::frame::Frame;
use super::messages::{FeedRequest, Remembered, WorkerId, WorkerMessage};
use super::reading::{Read, read};
use super::room::{Known, Waiting, WatchedRoom};
use super::state::HubState;
use crate::domain::cursor::Cursor;
use crate::domain::hint::{Hint, Mark, MarkKey};
use crate::domain::id::RoomId;
use crate::measure::meters;
use crate::store::{Store, StoreError, bounded};

/// Every watched room is polled this often, hint or no hint.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// Rooms in one read, at most.
const READ_ROOMS_MAX: usize = 1000;

/// Delay before a failed read is retried.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Requests deferred while a read is in flight, at most.
const LATER_MAX: usize = 4096;

/// Requests handled before rooms that are due are read again, at most: streams that come or go in thousands must not hold
/// up the events of others.
const REQUESTS_ROUND: usize = 4096;

/// Timeout of a new watcher's first read. After it the watcher is refused.
const WAIT_MAX: Duration = Duration::from_secs(2);

pub(super) struct Feed {
    store: Store,
    requests: mpsc::Receiver<FeedRequest>,
    shared: Arc<HubState>,
    workers: HashMap<WorkerId, mpsc::Sender<WorkerMessage>>,
    rooms: HashMap<RoomId, WatchedRoom>,
    /// The watched rooms by their marks, by this key.
    marks: (Option<MarkKey>, HashMap<Mark, RoomId>),
    dirty: HashSet<RoomId>,
    /// Requests that came while a read was in flight. At most [`LATER_MAX`]; then they stay in the channel.
    later: VecDeque<FeedRequest>,
    poll_at: Instant,
    retry_at: Instant,
}

/// Delay before a room that cannot be read is tried again.
const UNREADABLE_AFTER: Duration = POLL_EVERY;

impl Feed {
    pub(super) fn new(store: Store, requests: mpsc::Receiver<FeedRequest>, shared: Arc<HubState>) -> Self {
        let now = Instant::now();
        Self {
            store,
            requests,
            shared,
            workers: HashMap::new(),
            rooms: HashMap::new(),
            marks: (None, HashMap::new()),
            dirty: HashSet::new(),
            later: VecDeque::new(),
            poll_at: now + POLL_EVERY,
            retry_at: now,
        }
    }

    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            // Arm, then read, then wait: a hint that races with the read wakes the next round.
            let woken = shared.wake.notified();
            self.take_hints();
            for _ in 0..REQUESTS_ROUND {
                let Some(request) = self.later.pop_front().or_else(|| self.requests.try_recv().ok()) else {
                    break;
                };
                self.handle(request).await;
            }
            let due = self.due(Instant::now());
            if !due.is_empty() {
                self.round(due).await;
                continue;
            }
            if !self.later.is_empty() {
                continue;
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(self.next_due()) => {}
                request = self.requests.recv() => match request {
                    Some(request) => self.handle(request).await,
                    None => return,
                },
            }
        }
    }

    fn take_hints(&mut self) {
        let mut hints = self.shared.hints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let poll = std::mem::take(&mut hints.all) || self.poll_at <= Instant::now();
        if poll {
            self.dirty.extend(self.rooms.keys().cloned());
            self.poll_at = Instant::now() + POLL_EVERY;
        }
        let heard: Vec<Hint> = hints.rooms.drain().collect();
        drop(hints);
        if !heard.is_empty() {
            self.know_marks();
        }
        let watched = heard.into_iter().filter_map(|hint| match hint {
            Hint::Room(room) => Some(room).filter(|room| self.rooms.contains_key(room)),
            Hint::Mark(mark) => self.marks.1.get(&mark).cloned(),
        });
        self.dirty.extend(watched);
    }

    /// Computes the marks of all watched rooms if the key is another.
    fn know_marks(&mut self) {
        let key = self.shared.mark_key.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if key != self.marks.0 {
            let mark = |key: &MarkKey| self.rooms.keys().map(|room| (key.mark(room), room.clone())).collect();
            self.marks = (key.clone(), key.as_ref().map(mark).unwrap_or_default());
        }
    }

    async fn handle(&mut self, request: FeedRequest) {
        match request {
            FeedRequest::Attach { worker, inbox } => drop(self.workers.insert(worker, inbox)),
            FeedRequest::Watch { worker, room, mode, last, reply } => {
                let now = Instant::now();
                let waiting = Waiting { mode, last, since: now, reply };
                let settings = self.shared.settings.of(&room);
                let watched = self
                    .rooms
                    .entry(room.clone())
                    .or_insert_with(|| WatchedRoom::new(room.clone(), settings, now));
                watched.wait(worker, waiting);
                if let (Some(key), marks) = &mut self.marks {
                    marks.insert(key.mark(&room), room.clone());
                }
                self.dirty.insert(room);
            }
            FeedRequest::Unwatch { worker, rooms } => self.unwatch(worker, rooms),
            FeedRequest::Remembered { room, reply } => remember(&self.rooms, &room, reply),
            FeedRequest::Positions { most, reply } => drop(reply.send(positions(&self.rooms, most))),
            FeedRequest::Drain => tell(&self.workers, || WorkerMessage::Drain).await,
            FeedRequest::Rouse => tell(&self.workers, || WorkerMessage::Rouse).await,
        }
        self.shared.rooms.store(self.rooms.len(), Ordering::Relaxed);
    }

    fn unwatch(&mut self, worker: WorkerId, rooms: Vec<(RoomId, usize)>) {
        for (room, watchers) in rooms {
            if self.rooms.get_mut(&room).is_some_and(|watched| !watched.forget(worker, watchers)) {
                self.rooms.remove(&room);
                self.dirty.remove(&room);
                if let (Some(key), marks) = &mut self.marks {
                    marks.remove(&key.mark(&room));
                }
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<RoomId> {
        if self.retry_at > now {
            return Vec::new();
        }
        let due = |room: &&RoomId| self.rooms.get(*room).is_some_and(|r| r.due_at <= now);
        self.dirty.iter().filter(due).take(READ_ROOMS_MAX).cloned().collect()
    }

    fn next_due(&self) -> Instant {
        let rooms = self.dirty.iter().filter_map(|room| Some(self.rooms.get(room)?.due_at));
        rooms.min().map_or(self.poll_at, |due| due.max(self.retry_at).min(self.poll_at))
    }

    async fn round(&mut self, due: Vec<RoomId>) {
        let started = Instant::now();
        match self.read_and_serve(&due).await {
            Ok(read) => {
                let done = Instant::now();
                meters().feed_duration.record(done - started);
                self.shared.stale.store(false, Ordering::Relaxed);
                self.publish(due, read, done).await;
            }
            Err(error) => {
                meters().feed_failures.count(error.name(), 1);
                if !self.shared.stale.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "watched rooms cannot be read; streams stay open and are marked stale");
                }
                self.retry_at = Instant::now() + RETRY_AFTER;
                self.refuse_waiting();
            }
        }
    }

    /// Reads, and meanwhile serves the requests that must not wait for a hanging database: answers from the
    /// cache, and the drain.
    async fn read_and_serve(&mut self, due: &[RoomId]) -> Result<Read, StoreError> {
        let mut reading = std::pin::pin!(bounded(read(&self.store, &self.rooms, due)));
        loop {
            let request = tokio::select! {
                done = &mut reading => return done,
                Some(request) = self.requests.recv(), if self.later.len() < LATER_MAX => request,
            };
            match request {
                FeedRequest::Remembered { room, reply } => remember(&self.rooms, &room, reply),
                FeedRequest::Positions { most, reply } => drop(reply.send(positions(&self.rooms, most))),
                FeedRequest::Drain => tell(&self.workers, || WorkerMessage::Drain).await,
                FeedRequest::Rouse => tell(&self.workers, || WorkerMessage::Rouse).await,
                request => self.later.push_back(request),
            }
        }
    }

    async fn publish(&mut self, due: Vec<RoomId>, read: Read, read_at: Instant) {
        let settings = self.shared.settings.all();
        for id in &due {
            if let Some(room) = self.rooms.get_mut(id) {
                room.settings = settings.of(id);
            }
        }
        let mut ages: Vec<Duration> = Vec::new();
        let mut frames: HashMap<RoomId, Frame> = HashMap::new();
        for (id, (cursor, roster)) in read.first {
            if let Some(room) = self.rooms.get_mut(&id) {
                room.restart(cursor, roster); // no watcher has been answered yet: no frame
            }
        }
        for (id, _, tail) in read.tails.iter().filter(|(_, _, tail)| tail.complete) {
            if let Some(frame) = self.rooms.get_mut(id).and_then(|room| room.advance(tail)) {
                frames.insert(id.clone(), frame);
                ages.push(tail.age);
            }
        }
        for (id, (cursor, roster)) in read.anew {
            if let Some(room) = self.rooms.get_mut(&id) {
                let frame = room.restart(cursor, roster);
                frames.insert(id, frame);
            }
        }
        // The tail read in this round is also the replay for a watcher that returns at exactly the version
        // cached before.
        let since: HashMap<_, _> = read.tails.iter().map(|(id, after, tail)| (id, (*after, tail))).collect();
        for id in due {
            self.dirty.remove(&id);
            let Some(room) = self.rooms.get_mut(&id) else {
                continue;
            };
            if let Some(error) = read.unreadable.get(&id) {
                room.due_at = Instant::now() + UNREADABLE_AFTER;
                if room.cannot_be_read() {
                    tracing::warn!(room = %id, %error, "a room cannot be read; its streams are marked stale");
                }
                mark(&self.workers, room, true).await;
                continue;
            }
            if room.can_be_read() {
                tracing::info!(room = %id, "the room can be read again");
                mark(&self.workers, room, false).await;
            }
            let replays = read.replays.get(&id).into_iter().flatten();
            let replays = replays.map(|(version, tail)| (*version, tail)).chain(since.get(&id).copied());
            room.answer_waiting(&replays.collect());
            if let Some(frame) = frames.remove(&id) {
                room.due_at = Instant::now() + room.spacing();
                send(&self.workers, room, frame).await;
            }
        }
        let sent = read_at.elapsed();
        ages.into_iter().for_each(|age| meters().fanout_lag.record(age + sent));
    }

    /// Answers waiting watchers from the cache where there is one; the stream says that it is stale. Refuses
    /// watchers that have waited for [`WAIT_MAX`].
    fn refuse_waiting(&mut self) {
        for room in self.rooms.values_mut() {
            room.answer_stale();
            room.waiting.retain(|waiting| waiting.since.elapsed() < WAIT_MAX); // dropping the reply refuses
        }
    }
}

fn remember(rooms: &HashMap<RoomId, WatchedRoom>, room: &RoomId, reply: oneshot::Sender<Remembered>) {
    if let Some(Known { cursor, roster }) = rooms.get(room).and_then(|room| room.known.as_ref()) {
        let _ = reply.send(Remembered { cursor: cursor.clone(), roster: roster.clone() }); // caller may be gone
    }
}

/// At most `most` cached rooms, starting anywhere, so that repeated calls cover all rooms.
fn positions(rooms: &HashMap<RoomId, WatchedRoom>, most: usize) -> Vec<(RoomId, Cursor)> {
    let skipped = if rooms.len() > most { rand::random_range(0..rooms.len()) } else { 0 };
    let known = rooms.iter().skip(skipped).chain(rooms.iter().take(skipped));
    known
        .filter_map(|(id, room)| Some((id.clone(), room.known.as_ref()?.cursor.clone())))
        .take(most)
        .collect()
}

async fn tell(workers: &HashMap<WorkerId, mpsc::Sender<WorkerMessage>>, message: impl Fn() -> WorkerMessage) {
    for worker in workers.values() {
        let _ = worker.send(message()).await; // a worker that is gone has no streams
    }
}

async fn send(workers: &HashMap<WorkerId, mpsc::Sender<WorkerMessage>>, room: &WatchedRoom, frame: Frame) {
    let frame = Arc::new(frame);
    for inbox in room.watchers.keys().filter_map(|worker| workers.get(worker)) {
        let message =
            WorkerMessage::Frame { room: room.id.clone(), number: room.number, frame: frame.clone() };
        let _ = inbox.send(message).await; // a worker that is gone has no watchers
    }
}

/// Tells the watchers of a room that it cannot be read, or can be again.
async fn mark(workers: &HashMap<WorkerId, mpsc::Sender<WorkerMessage>>, room: &WatchedRoom, stale: bool) {
    for inbox in room.watchers.keys().filter_map(|worker| workers.get(worker)) {
        let _ = inbox.send(WorkerMessage::Stale { room: room.id.clone(), stale }).await; // as in `send`
    }
}
