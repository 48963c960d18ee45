//! Followed users: where each of them is, for the watchlists of this replica.
//!
//! One task for all watchlists. Hints, which name rooms, wake it. It reads from the log which users changed
//! in those rooms since its last read, and looks up the followed ones; hints are throttled to four reads a
//! second. Every 2 s it also polls followed users in turn, hint or no hint. Look-ups run one after the other,
//! so the cached places of a user never go back in time.
//!
//! Bounded: a user with ten thousand followers is cached once and looked up once. A look-up takes at most
//! [`LOOK_MAX`] users, a scan at most [`SCAN_MAX`]. A follower is a count of changes seen, not a queue: a
//! slow follower sees only the newest state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::messages::Unreadable;
use super::state::Counted;
use crate::domain::hint::Hint;
use crate::domain::id::UserId;
use crate::domain::member::Viewer;
use crate::store::events::Mover;
use crate::store::rosters::{Bounds, Whereabouts};
use crate::store::{Store, StoreError, bounded};

/// Throttle of hints: the time between two reads of the rooms that they name.
const TICK: Duration = Duration::from_millis(250);

/// Time between scans. If hints are lost, a change is found no later than this, with up to [`SCAN_MAX`]
/// followed users.
const SCAN_EVERY: Duration = Duration::from_secs(2);

/// Users in one look-up, at most: some 20 ms of the database's work.
const LOOK_MAX: usize = 1000;

/// Users queued by one scan, at most.
const SCAN_MAX: usize = 5000;

/// Hinted rooms kept, at most. Changes in further rooms are found by scans.
const HINTS_MAX: usize = 10_000;

/// Delay before a failed look-up is retried.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Timeout of a new watchlist's first look-up. After it the watchlist is refused.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Watchlists queued for the task, at most; then callers wait.
const REQUESTS_MAX: usize = 1024;

/// Where a user is: one entry per room, including rooms where others do not see them; or a single entry
/// without a room.
pub type Places = Arc<[Whereabouts]>;

/// One followed user.
struct Followed {
    known: Mutex<Option<Places>>,
    changes: AtomicU64,
}

impl Followed {
    /// Caches what was read. Returns whether followers see a change.
    fn learn(&self, places: Places) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let news = known.as_deref().is_none_or(|known| !known.iter().map(shown).eq(places.iter().map(shown)));
        *known = Some(places);
        if news {
            self.changes.fetch_add(1, Ordering::Release);
        }
        news
    }
}

/// The part of a place whose change is news to followers. The time last seen is left out: it changes with
/// every heartbeat.
fn shown(place: &Whereabouts) -> (Option<&str>, Option<&str>, Option<bool>) {
    (place.room_id.as_deref(), place.status.as_deref(), place.invisible)
}

struct FollowRequest {
    users: Vec<UserId>,
    since: Instant,
    reply: oneshot::Sender<Vec<Arc<Followed>>>,
}

#[derive(Default)]
struct FollowSignals {
    wake: Notify,
    stale: AtomicBool,
    /// The rooms hinted since the last read.
    hinted: Mutex<HashSet<Hint>>,
    /// Whether any user is followed. If not, hints take the fast path: they are dropped.
    used: AtomicBool,
}

impl FollowSignals {
    fn hint<'a>(&self, hints: impl Iterator<Item = &'a Hint>) {
        let mut hinted = self.hinted.lock().unwrap_or_else(PoisonError::into_inner);
        for hint in hints {
            if hinted.len() < HINTS_MAX {
                hinted.insert(hint.clone());
            }
        }
    }
}

/// The handle of the task. Cheap to clone.
#[derive(Clone)]
pub(super) struct Follow {
    requests: mpsc::Sender<FollowRequest>,
    signals: Arc<FollowSignals>,
    rounds: Arc<watch::Sender<bool>>,
}

impl Follow {
    /// Starts the task. It ends when the last handle is dropped.
    pub(super) fn start(store: Store) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let (signals, rounds) = (Arc::<FollowSignals>::default(), Arc::new(watch::Sender::new(false)));
        let now = Instant::now();
        let task = Task {
            store,
            requests: receiver,
            signals: signals.clone(),
            rounds: rounds.clone(),
            users: BTreeMap::new(),
            due: BTreeSet::new(),
            read_to: HashMap::new(),
            scanned_to: None,
            tick_at: now,
            scan_at: now,
        };
        tokio::spawn(task.run());
        Self { requests, signals, rounds }
    }

    /// Notes that these rooms may have changed.
    pub(super) fn hint<'a>(&self, hints: impl Iterator<Item = &'a Hint>) {
        if !self.signals.used.load(Ordering::Relaxed) {
            return;
        }
        self.signals.hint(hints);
        self.signals.wake.notify_one();
    }

    /// Drains: ends every watchlist.
    pub(super) fn drain(&self) {
        self.rounds.send_replace(true);
    }

    /// Wakes every watchlist.
    pub(super) fn rouse(&self) {
        self.rounds.send_modify(|_| {});
    }

    /// Whether the last look-up failed, so that the cache may be stale.
    pub(super) fn stale(&self) -> bool {
        self.signals.stale.load(Ordering::Relaxed)
    }

    /// Follows users. Returns once all of them have been looked up after this call.
    pub(super) async fn follow(&self, users: Vec<UserId>, counted: Counted) -> Result<Following, Unreadable> {
        let rounds = self.rounds.subscribe(); // before the look-up, or a change that races with it is missed
        let (reply, answer) = oneshot::channel();
        let request = FollowRequest { users, since: Instant::now(), reply };
        self.requests.send(request).await.map_err(|_| Unreadable)?;
        let users = answer.await.map_err(|_| Unreadable)?;
        Ok(Following { seen: vec![0; users.len()], users, rounds, _counted: counted })
    }
}

/// One watchlist.
pub struct Following {
    users: Vec<Arc<Followed>>,
    /// Changes seen of each user.
    seen: Vec<u64>,
    rounds: watch::Receiver<bool>,
    _counted: Counted,
}

impl Following {
    /// The users that changed since the last call, by index in the list, with their places. The first call
    /// returns all users.
    pub fn news(&mut self) -> Vec<(usize, Places)> {
        let changed =
            self.users.iter().zip(&mut self.seen).enumerate().filter_map(|(index, (user, seen))| {
                let changes = user.changes.load(Ordering::Acquire);
                if changes == *seen {
                    return None;
                }
                *seen = changes; // no newer than `known`, which is read next
                let known = user.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.clone().map(|places| (index, places))
            });
        changed.collect()
    }

    /// Whether the watchlist must end now.
    pub fn draining(&self) -> bool {
        *self.rounds.borrow()
    }

    /// Waits until there may be news.
    pub async fn woken(&mut self) {
        if self.rounds.changed().await.is_err() {
            std::future::pending::<()>().await; // the task has ended: no news will come
        }
    }
}

struct Task {
    store: Store,
    requests: mpsc::Receiver<FollowRequest>,
    signals: Arc<FollowSignals>,
    rounds: Arc<watch::Sender<bool>>,
    users: BTreeMap<UserId, Arc<Followed>>,
    /// Users to look up; a subset of `users`.
    due: BTreeSet<UserId>,
    /// The version up to which the log was read, of each room by either of its hints. A cache: cleared when it would
    /// exceed twice [`HINTS_MAX`].
    read_to: HashMap<Hint, i64>,
    /// The last user of the last scan, none if it reached the end.
    scanned_to: Option<UserId>,
    tick_at: Instant,
    scan_at: Instant,
}

impl Task {
    async fn run(mut self) {
        let signals = self.signals.clone();
        let mut waiting: Vec<FollowRequest> = Vec::new();
        loop {
            // Arm, then read, then wait: a hint that races with the read wakes the next round.
            let woken = signals.wake.notified();
            while waiting.len() < REQUESTS_MAX
                && let Ok(request) = self.requests.try_recv()
            {
                waiting.push(request);
            }
            if self.scan_at <= Instant::now() {
                self.begin_scan();
            }
            let hinted = self.tick_at <= Instant::now() && self.hinted();
            if !waiting.is_empty() || !self.due.is_empty() || hinted {
                if let Err(error) = self.round(&mut waiting, hinted).await {
                    self.failed(&error, &mut waiting).await;
                }
                continue;
            }
            let at = if self.hinted() { self.tick_at.min(self.scan_at) } else { self.scan_at };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(at), if !self.users.is_empty() => {}
                request = self.requests.recv() => match request {
                    Some(request) => waiting.push(request),
                    None => return,
                },
            }
        }
    }

    fn hinted(&self) -> bool {
        !self.signals.hinted.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Evicts users that are no longer followed, and queues the next ones for a look-up.
    fn begin_scan(&mut self) {
        self.scan_at = Instant::now() + SCAN_EVERY;
        self.users.retain(|_, user| Arc::strong_count(user) > 1);
        self.due.retain(|user| self.users.contains_key(user));
        self.signals.used.store(!self.users.is_empty(), Ordering::Relaxed);
        let from = self.scanned_to.take().map_or(Unbounded, Excluded);
        let next: Vec<UserId> =
            self.users.range((from, Unbounded)).take(SCAN_MAX).map(|(id, _)| id.clone()).collect();
        self.scanned_to = next.last().filter(|_| next.len() == SCAN_MAX).cloned();
        self.due.extend(next);
    }

    /// Queues the users that changed in hinted rooms, then makes one look-up. New watchlists go first.
    async fn round(&mut self, waiting: &mut Vec<FollowRequest>, hinted: bool) -> Result<(), StoreError> {
        if hinted {
            self.tick_at = Instant::now() + TICK;
            self.read_log().await?;
        }
        let mut asked = 0;
        let opening = waiting.iter().take_while(|request| {
            asked += request.users.len();
            asked <= LOOK_MAX
        });
        let opened = opening.count();
        let mut looked: BTreeSet<UserId> = waiting[..opened].iter().flat_map(|r| &r.users).cloned().collect();
        for user in &looked {
            let new = || Arc::new(Followed { known: Mutex::new(None), changes: AtomicU64::new(0) });
            self.users.entry(user.clone()).or_insert_with(new);
        }
        self.signals.used.store(!self.users.is_empty(), Ordering::Relaxed);
        let room = LOOK_MAX.saturating_sub(looked.len());
        looked.extend(self.due.iter().take(room).cloned());
        if self.look(looked).await? {
            self.rounds.send_modify(|_| {}); // the same value: it only wakes
        }
        for FollowRequest { users, reply, .. } in waiting.drain(..opened) {
            let _ = reply.send(users.iter().map(|user| self.users[user].clone()).collect()); // caller may be gone
        }
        Ok(())
    }

    async fn read_log(&mut self) -> Result<(), StoreError> {
        let hints = std::mem::take(&mut *self.signals.hinted.lock().unwrap_or_else(PoisonError::into_inner));
        if self.read_to.len() + 2 * hints.len() > 2 * HINTS_MAX {
            self.read_to.clear();
        }
        let positions: Vec<(Hint, Option<i64>)> =
            hints.into_iter().map(|hint| (hint.clone(), self.read_to.get(&hint).copied())).collect();
        let moved = bounded(self.store.movers(&positions)).await;
        let moved = moved.inspect_err(|_| self.signals.hint(positions.iter().map(|(hint, _)| hint)))?;
        for Mover { room, mark, version, users } in moved {
            self.read_to.extend(mark.map(|mark| (Hint::Mark(mark), version)));
            self.read_to.insert(Hint::Room(room), version);
            self.due.extend(users.into_iter().filter(|user| self.users.contains_key(user)));
        }
        Ok(())
    }

    /// Looks up users. Returns whether any of them changed.
    async fn look(&mut self, users: BTreeSet<UserId>) -> Result<bool, StoreError> {
        let users: Vec<UserId> = users.into_iter().collect();
        if users.is_empty() {
            return Ok(false);
        }
        // Read with a server's rights. What each follower may see is filtered later.
        let found = bounded(self.store.whereabouts(&users, &Viewer::Server, &Bounds::none())).await?;
        self.signals.stale.store(false, Ordering::Relaxed);
        let mut news = false;
        for places in found.chunk_by(|(one, _), (other, _)| one == other) {
            let user = &users[places[0].0 - 1]; // numbered from 1
            self.due.remove(user);
            if let Some(followed) = self.users.get(user) {
                news |= followed.learn(places.iter().map(|(_, place)| place.clone()).collect());
            }
        }
        Ok(news)
    }

    /// Refuses watchlists that have waited for [`WAIT_MAX`]. Followed users stay queued, and are looked up
    /// when the database is back.
    async fn failed(&mut self, error: &StoreError, waiting: &mut Vec<FollowRequest>) {
        if !self.signals.stale.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "followed users cannot be looked up; watchlists stay open and are marked stale");
        }
        waiting.retain(|request| request.since.elapsed() < WAIT_MAX); // dropping the reply refuses
        tokio::time::sleep(RETRY_AFTER).await;
    }
}
