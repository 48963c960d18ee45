//! The handle by which everything else reaches the hub.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

use super::feed;
use super::follow::{self, Following};
use super::messages::{FeedRequest, Remembered, Unreadable};
use super::pulse::Pulse;
use super::room_settings::RoomSettingsCache;
use super::state::{Counted, Hearing, HubState};
use crate::domain::cursor::Cursor;
use crate::domain::hint::Hint;
use crate::domain::id::{RoomId, UserId};
use crate::measure::{meters, number};
use crate::store::Store;

/// Hinted rooms kept apart, at most; past that, every watched room is looked at.
const HINTS_MAX: usize = 10_000;

/// Requests waiting for the feed, at most; handlers wait for a place.
const REQUESTS_MAX: usize = 4096;

/// A handle to the hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    pub(super) requests: mpsc::Sender<FeedRequest>,
    follow: follow::Follow,
    pub(super) shared: Arc<HubState>,
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
