//! The task that reads watched rooms and publishes their frames.
//!
//! Bounded: it holds the rosters of rooms that have watchers, and nothing of others. Reads are batched: all rooms
//! due are read in one statement, whatever woke the feed, so a storm of reconnects to one room is one read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::frame::Frame;
use super::room::{Known, Room, Waiting};
use super::{Message, Remembered, Request, Shared, WorkerId};
use crate::domain::cursor::Cursor;
use crate::domain::id::RoomId;
use crate::domain::roster::Roster;
use crate::store::events::Tail;
use crate::store::{Store, StoreError, bounded};

/// Every watched room is looked at this often, hint or no hint.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// Rooms in one read, at most.
const READ_ROOMS_MAX: usize = 1000;

/// After a failed read, the next waits this long.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A new watcher waits this long for the first read, then it is refused.
const WAIT_MAX: Duration = Duration::from_secs(2);

pub(super) struct Feed {
    store: Store,
    requests: mpsc::Receiver<Request>,
    shared: Arc<Shared>,
    workers: HashMap<WorkerId, mpsc::Sender<Message>>,
    rooms: HashMap<RoomId, Room>,
    dirty: HashSet<RoomId>,
    poll_at: Instant,
    retry_at: Instant,
}

/// What one round of reading found.
struct Read {
    loaded: Vec<(RoomId, (Cursor, Roster))>,
    tails: Vec<(RoomId, Tail)>,
    replays: HashMap<RoomId, Vec<(i64, Tail)>>,
}

impl Feed {
    pub(super) fn new(store: Store, requests: mpsc::Receiver<Request>, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let (workers, rooms, dirty) = (HashMap::new(), HashMap::new(), HashSet::new());
        Self { store, requests, shared, workers, rooms, dirty, poll_at: now + POLL_EVERY, retry_at: now }
    }

    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            // Arm, then read, then wait: a hint that comes while reading wakes the next round.
            let woken = shared.wake.notified();
            self.take_hints();
            while let Ok(request) = self.requests.try_recv() {
                self.handle(request).await;
            }
            let due = self.due(Instant::now());
            if !due.is_empty() {
                self.round(due).await;
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
        self.dirty.extend(hints.rooms.drain().filter(|room| self.rooms.contains_key(room)));
    }

    async fn handle(&mut self, request: Request) {
        match request {
            Request::Attach { worker, inbox } => drop(self.workers.insert(worker, inbox)),
            Request::Watch { worker, room, mode, last, reply } => {
                let now = Instant::now();
                let waiting = Waiting { mode, last, since: now, reply };
                let watched = self.rooms.entry(room.clone()).or_insert_with(|| Room::new(room.clone(), now));
                watched.wait(worker, waiting);
                self.dirty.insert(room);
            }
            Request::Unwatch { worker, room, watchers } => {
                if self.rooms.get_mut(&room).is_some_and(|watched| !watched.forget(worker, watchers)) {
                    self.rooms.remove(&room);
                    self.dirty.remove(&room);
                }
            }
            Request::Remembered { room, reply } => {
                if let Some(Known { cursor, roster }) = self.rooms.get(&room).and_then(|r| r.known.as_ref()) {
                    let _ = reply.send(Remembered { cursor: cursor.clone(), roster: roster.clone() });
                }
            }
            Request::Drain => {
                for worker in self.workers.values() {
                    let _ = worker.send(Message::Drain).await; // a worker that is gone has no streams
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
        match bounded(self.read(&due)).await {
            Ok(read) => {
                self.shared.stale.store(false, Ordering::Relaxed);
                self.publish(due, read).await;
            }
            Err(error) => {
                if !self.shared.stale.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "watched rooms cannot be read; streams stay open and are marked stale");
                }
                self.retry_at = Instant::now() + RETRY_AFTER;
                self.refuse_waiting();
            }
        }
    }

    /// Rooms not known yet are read whole; then all are followed, together with what returning watchers missed.
    async fn read(&self, due: &[RoomId]) -> Result<Read, StoreError> {
        let unknown: Vec<RoomId> = due.iter().filter(|id| self.rooms[*id].known.is_none()).cloned().collect();
        let mut loaded = self.load(unknown).await?;
        let mut positions: Vec<(RoomId, Cursor)> = Vec::new();
        let mut follow = 0;
        for id in due {
            if let Some(known) = &self.rooms[id].known {
                positions.push((id.clone(), known.cursor.clone()));
                follow += 1;
            }
        }
        for id in due {
            positions.extend(self.rooms[id].replays().into_iter().map(|cursor| (id.clone(), cursor)));
        }
        let (mut tails, mut replays) = (Vec::new(), HashMap::<RoomId, Vec<(i64, Tail)>>::new());
        if !positions.is_empty() {
            for (index, tail) in self.store.tails(&positions).await? {
                let (id, cursor) = &positions[index];
                if index < follow {
                    tails.push((id.clone(), tail));
                } else {
                    replays.entry(id.clone()).or_default().push((cursor.version, tail));
                }
            }
        }
        let broken = tails.iter().filter(|(_, tail)| !tail.complete).map(|(id, _)| id.clone()).collect();
        loaded.extend(self.load(broken).await?);
        Ok(Read { loaded, tails, replays })
    }

    async fn load(&self, rooms: Vec<RoomId>) -> Result<Vec<(RoomId, (Cursor, Roster))>, StoreError> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let rosters = self.store.rosters(&rooms).await?;
        Ok(rooms.into_iter().zip(rosters).collect())
    }

    async fn publish(&mut self, due: Vec<RoomId>, read: Read) {
        let mut frames: HashMap<RoomId, Frame> = HashMap::new();
        for (id, tail) in read.tails.iter().filter(|(_, tail)| tail.complete) {
            if let Some(frame) = self.rooms.get_mut(id).and_then(|room| room.advance(tail)) {
                frames.insert(id.clone(), frame);
            }
        }
        for (id, (cursor, roster)) in read.loaded {
            if let Some(room) = self.rooms.get_mut(&id) {
                let first = room.known.is_none();
                let frame = room.restart(cursor, roster);
                if !first {
                    frames.insert(id, frame);
                }
            }
        }
        for id in due {
            self.dirty.remove(&id);
            let Some(room) = self.rooms.get_mut(&id) else {
                continue;
            };
            let replays = read.replays.get(&id).into_iter().flatten();
            room.answer_waiting(&replays.map(|(version, tail)| (*version, tail)).collect());
            if let Some(frame) = frames.remove(&id) {
                room.due_at = Instant::now() + room.spacing();
                send(&self.workers, room, frame).await;
            }
        }
    }

    fn refuse_waiting(&mut self) {
        for room in self.rooms.values_mut() {
            room.waiting.retain(|waiting| waiting.since.elapsed() < WAIT_MAX); // dropping the reply refuses
        }
    }
}

async fn send(workers: &HashMap<WorkerId, mpsc::Sender<Message>>, room: &Room, frame: Frame) {
    let frame = Arc::new(frame);
    for inbox in room.watchers.keys().filter_map(|worker| workers.get(worker)) {
        let message = Message::Frame { room: room.id.clone(), number: room.number, frame: frame.clone() };
        let _ = inbox.send(message).await; // a worker that is gone has no watchers
    }
}
