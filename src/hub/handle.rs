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
use crate::domain::hint::{Hint, MarkKey};
use crate::domain::id::{RoomId, UserId};
use crate::measure::{meters, number};
use crate::store::Store;

/// Hinted rooms kept, at most. Beyond that, hints are coalesced into one for every watched room.
const HINTS_MAX: usize = 10_000;

/// Requests queued for the feed, at most; then handlers wait (back-pressure).
const REQUESTS_MAX: usize = 4096;

/// A handle to the hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    pub(super) requests: mpsc::Sender<FeedRequest>,
    follow: follow::Follow,
    pub(super) shared: Arc<HubState>,
}

impl Hub {
    /// Starts the feed and the task of followed users. Both end when the last handle is dropped.
    pub fn start(store: Store) -> Self {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let shared = Arc::new(HubState {
            hints: Mutex::default(),
            mark_key: Mutex::default(),
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

    /// Notes that these rooms may have changed. `source` is a label of the metric.
    pub fn hint(&self, source: &str, hints: impl IntoIterator<Item = Hint>) {
        let hints: Vec<Hint> = hints.into_iter().collect();
        meters().hints.count(source, hints.len() as u64);
        self.follow.hint(hints.iter());
        let mut kept = self.shared.hints.lock().unwrap_or_else(PoisonError::into_inner);
        kept.rooms.extend(hints);
        if kept.rooms.len() > HINTS_MAX {
            kept.rooms.clear();
            kept.all = true;
        }
        drop(kept);
        self.shared.wake.notify_one();
    }

    /// Sets the key of the marks that hints carry.
    pub fn know_marks(&self, key: MarkKey) {
        *self.shared.mark_key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// Notes that hints may have been lost: every watched room is read.
    pub fn resync(&self) {
        self.shared.hints.lock().unwrap_or_else(PoisonError::into_inner).all = true;
        self.shared.wake.notify_one();
    }

    /// Whether the feed's last read failed, so that rosters may be stale.
    pub fn stale(&self) -> bool {
        self.shared.stale.load(Ordering::Relaxed)
    }

    /// Follows users, wherever they are. Returns once all of them have been looked up after this call.
    pub async fn follow(&self, users: Vec<UserId>) -> Result<Following, Unreadable> {
        self.follow.follow(users, Counted::new(self.shared.clone())).await
    }

    /// Whether what followers see may be stale.
    pub fn follow_stale(&self) -> bool {
        self.follow.stale()
    }

    /// The cached settings of rooms.
    pub fn settings(&self) -> &RoomSettingsCache {
        &self.shared.settings
    }

    /// Sets whether notifications of other replicas' commits arrive.
    pub fn hear(&self, hearing: Hearing) {
        self.shared.hearing.store(hearing as u8, Ordering::Relaxed);
    }

    /// Whether notifications of other replicas' commits arrive.
    pub fn hearing(&self) -> Hearing {
        let now = self.shared.hearing.load(Ordering::Relaxed);
        [Hearing::Off, Hearing::Away, Hearing::On]
            .into_iter()
            .find(|h| *h as u8 == now)
            .unwrap_or(Hearing::Off)
    }

    /// Sets the gauges: watchers, watched rooms, staleness, listening.
    pub fn measure(&self) {
        let meters = meters();
        meters.watchers.set(number(self.watchers()));
        meters.watched_rooms.set(number(self.shared.rooms.load(Ordering::Relaxed)));
        meters.stale.set(f64::from(u8::from(self.stale())));
        meters.listening.set(f64::from(u8::from(self.hearing() == Hearing::On)));
    }

    /// The cached positions of watched rooms: a sample if there are more than `most`.
    pub async fn positions(&self, most: usize) -> Option<Vec<(RoomId, Cursor)>> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(FeedRequest::Positions { most, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Open streams on this replica.
    pub fn watchers(&self) -> usize {
        self.shared.watchers.load(Ordering::Relaxed)
    }

    /// Health check: whether the feed runs, and every worker ticked within `patience`.
    pub fn lives(&self, patience: Duration) -> bool {
        !self.requests.is_closed() && self.shared.pulse.is_regular(Instant::now(), patience)
    }

    /// The cached roster of a room that is watched here.
    pub async fn remembered(&self, room: RoomId) -> Option<Remembered> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(FeedRequest::Remembered { room, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Wakes every stream, so that each checks whether it must end.
    pub async fn rouse(&self) {
        self.follow.rouse();
        let _ = self.requests.send(FeedRequest::Rouse).await; // no feed, no streams
    }

    /// Drains: ends every stream with `bye {drain}`.
    pub async fn drain(&self) {
        self.follow.drain();
        let _ = self.requests.send(FeedRequest::Drain).await; // no feed, no streams
    }
}
