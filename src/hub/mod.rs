//! This replica's rooms and watchers.
//!
//! One task (the [`feed`]) holds the roster of every watched room. It is woken by hints, never told by them: it
//! reads the log after the version it has, folds what came into one frame, encodes that once per mode, and hands
//! it to each worker thread that has watchers of the room. There a [`fan`] keeps a short ring of frames per room,
//! from which every watcher reads at its own pace. A watcher is a position, not a queue.

mod fan;
mod feed;
mod follow;
pub mod frame;
mod pulse;
mod room;
mod room_settings;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

pub use fan::{Fan, Next, ROUND, WakeSlot, Watcher};
pub use follow::{Following, Places};
use frame::{Frame, Mode, Wire};
use pulse::Pulse;
pub use room_settings::RoomSettingsCache;

use crate::domain::cursor::Cursor;
use crate::domain::hint::Hint;
use crate::domain::id::{RoomId, UserId};
use crate::domain::roster::Roster;
use crate::measure::{meters, number};
use crate::store::Store;

/// Hinted rooms kept apart, at most; past that, every watched room is looked at.
const HINTS_MAX: usize = 10_000;

/// Requests waiting for the feed, at most; handlers wait for a place.
const REQUESTS_MAX: usize = 4096;

/// Messages waiting for a worker, at most. A worker that is so far behind slows the feed down, and the feed then
/// folds more versions into a frame.
const INBOX_MAX: usize = 1024;

/// What a watcher starts with.
#[derive(Debug)]
pub struct Opening {
    /// What it must be sent first: a snapshot, what it missed, or nothing when it is at the head.
    pub first: Option<Wire>,
    /// Where it is then.
    pub cursor: Cursor,
    /// The number of the room's last frame: frames after it are news to this watcher.
    pub number: u64,
}

/// A roster as the hub has it, served when the database cannot be asked.
#[derive(Debug)]
pub struct Remembered {
    /// Where it was read.
    pub cursor: Cursor,
    /// Who was there.
    pub roster: Roster,
}

/// The room cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room cannot be read now")]
pub struct Unreadable;

type WorkerId = usize;

enum FeedRequest {
    Attach {
        worker: WorkerId,
        inbox: mpsc::Sender<WorkerMessage>,
    },
    Watch {
        worker: WorkerId,
        room: RoomId,
        mode: Mode,
        last: Option<Cursor>,
        reply: oneshot::Sender<Opening>,
    },
    Unwatch {
        worker: WorkerId,
        room: RoomId,
        watchers: usize,
    },
    Remembered {
        room: RoomId,
        reply: oneshot::Sender<Remembered>,
    },
    Positions {
        most: usize,
        reply: oneshot::Sender<Vec<(RoomId, Cursor)>>,
    },
    Drain,
}

enum WorkerMessage {
    Frame { room: RoomId, number: u64, frame: Arc<Frame> },
    Drain,
}

#[derive(Default)]
struct Hints {
    rooms: HashSet<RoomId>,
    all: bool,
}

/// Whether this replica hears of other replicas' commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hearing {
    /// It does not listen, and was not asked to.
    Off,
    /// It should, but its connection is away.
    Away,
    /// It does.
    On,
}

struct HubState {
    hints: Mutex<Hints>,
    wake: Notify,
    stale: AtomicBool,
    settings: RoomSettingsCache,
    hearing: AtomicU8,
    rooms: AtomicUsize,
    watchers: AtomicUsize,
    workers: AtomicUsize,
    pulse: Pulse,
}

/// An open stream, for those who count them.
struct Counted(Arc<HubState>);

impl Counted {
    fn new(shared: Arc<HubState>) -> Self {
        shared.watchers.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A handle to the hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    requests: mpsc::Sender<FeedRequest>,
    follow: follow::Follow,
    shared: Arc<HubState>,
}

impl Hub {
    /// Starts the feed and what follows users. They end when the last handle is gone.
    pub fn start(store: Store) -> Self {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let shared = Arc::new(HubState {
            hints: Mutex::default(),
            wake: Notify::new(),
            stale: AtomicBool::new(false),
            settings: RoomSettingsCache::default(),
            hearing: AtomicU8::new(Hearing::Off as u8),
            rooms: AtomicUsize::new(0),
            watchers: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            pulse: Pulse::default(),
        });
        let follow = follow::Follow::start(store.clone());
        tokio::spawn(feed::Feed::new(store, requests, shared.clone()).run());
        Self { requests: sender, follow, shared }
    }

    /// Says that these rooms may have moved; metrics count by whom it was said.
    pub fn hint(&self, source: &str, hints: impl IntoIterator<Item = Hint>) {
        let hints: Vec<Hint> = hints.into_iter().collect();
        meters().hints.count(source, hints.len() as u64);
        self.follow.hint(hints.iter());
        let mut kept = self.shared.hints.lock().unwrap_or_else(PoisonError::into_inner);
        kept.rooms.extend(hints.into_iter().map(|hint| hint.room));
        if kept.rooms.len() > HINTS_MAX {
            kept.rooms.clear();
            kept.all = true;
        }
        drop(kept);
        self.shared.wake.notify_one();
    }

    /// Says that hints may have been lost: every watched room is looked at.
    pub fn resync(&self) {
        self.shared.hints.lock().unwrap_or_else(PoisonError::into_inner).all = true;
        self.shared.wake.notify_one();
    }

    /// Whether the last look at the database failed.
    pub fn stale(&self) -> bool {
        self.shared.stale.load(Ordering::Relaxed)
    }

    /// Follows users, wherever they are. They have all been looked up since this was called.
    pub async fn follow(&self, users: Vec<UserId>) -> Result<Following, Unreadable> {
        self.follow.follow(users, Counted::new(self.shared.clone())).await
    }

    /// Whether what followers were told may be out of date.
    pub fn follow_stale(&self) -> bool {
        self.follow.stale()
    }

    /// What is set for rooms.
    pub fn settings(&self) -> &RoomSettingsCache {
        &self.shared.settings
    }

    /// Says whether other replicas' commits are heard of.
    pub fn hear(&self, hearing: Hearing) {
        self.shared.hearing.store(hearing as u8, Ordering::Relaxed);
    }

    /// Whether other replicas' commits are heard of.
    pub fn hearing(&self) -> Hearing {
        let now = self.shared.hearing.load(Ordering::Relaxed);
        [Hearing::Off, Hearing::Away, Hearing::On]
            .into_iter()
            .find(|h| *h as u8 == now)
            .unwrap_or(Hearing::Off)
    }

    /// Says how many watch, and whether what they see is current.
    pub fn measure(&self) {
        let meters = meters();
        meters.watchers.set(number(self.watchers()));
        meters.watched_rooms.set(number(self.shared.rooms.load(Ordering::Relaxed)));
        meters.stale.set(f64::from(u8::from(self.stale())));
        meters.listening.set(f64::from(u8::from(self.hearing() == Hearing::On)));
    }

    /// Where watched rooms are, as they were last read: some of them, if they are more than `most`.
    pub async fn positions(&self, most: usize) -> Option<Vec<(RoomId, Cursor)>> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(FeedRequest::Positions { most, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Open streams on this replica.
    pub fn watchers(&self) -> usize {
        self.shared.watchers.load(Ordering::Relaxed)
    }

    /// Whether the feed runs, and every worker has ticked lately.
    pub fn lives(&self, patience: Duration) -> bool {
        !self.requests.is_closed() && self.shared.pulse.is_regular(Instant::now(), patience)
    }

    /// The roster of a room that is being watched here, as it was last read.
    pub async fn remembered(&self, room: RoomId) -> Option<Remembered> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(FeedRequest::Remembered { room, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Ends every stream with `bye {drain}`.
    pub async fn drain(&self) {
        self.follow.drain();
        let _ = self.requests.send(FeedRequest::Drain).await; // no feed, no streams
    }
}
