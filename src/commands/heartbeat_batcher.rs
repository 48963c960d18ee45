//! Batches heartbeats: those that came while one update ran share the next. Small updates are throttled to
//! one every [`APART`].
//!
//! Bounded: at most [`QUEUE_MAX`] requests wait; one more is refused as overloaded. Each is answered after
//! its commit, with what the database found. After [`ANSWER_MAX`] the answer is that the outcome is unknown;
//! heartbeats are idempotent, so the client may retry.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, Span};

use super::error::CommandError;
use super::timing::Timing;
use crate::domain::id::SessionId;
use crate::measure::{meters, number, spans, throttle};
use crate::store::commands::Leased;
use crate::store::heartbeats::{Alive, Heartbeat};
use crate::store::{Store, StoreError, bounded};

/// Requests in one update, at most; each carries at most 100 heartbeats, nearly always one.
const BATCH_MAX: usize = 1000;

/// The least time from the start of a small update to the start of the next. An update by itself costs as
/// much as a dozen heartbeats, and no caller is in a hurry for the answer. Without the throttle, at a few
/// thousand heartbeats a second each would be an update of its own.
const APART: Duration = Duration::from_millis(3);

/// A batch of this many requests is not throttled.
const ENOUGH: usize = 32;

/// Requests queued, at most: about a quarter of a second of work.
const QUEUE_MAX: usize = 16_384;

/// Timeout of every caller, also while the database hangs. A heartbeat that waited longer is dropped: it
/// would renew the lease as of now, though the session was last heard of then.
const ANSWER_MAX: Duration = Duration::from_millis(900);

/// Callback with the sessions whose idleness changed.
pub type OnIdleChange = Arc<dyn Fn(Vec<SessionId>) + Send + Sync>;

struct QueuedBeats {
    beats: Vec<Heartbeat>,
    since: Instant,
    reply: oneshot::Sender<Result<Vec<Option<Leased>>, CommandError>>,
    /// The request's span.
    span: Span,
}

/// The handle of the batcher. Cheap to clone; the task ends when the last clone is dropped.
#[derive(Clone)]
pub struct HeartbeatBatcher {
    queue: mpsc::Sender<QueuedBeats>,
}

impl HeartbeatBatcher {
    /// Starts the batcher.
    pub fn start(store: Store, timing: Timing, on_idle_change: OnIdleChange) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run(store, timing, on_idle_change, requests));
        Self { queue }
    }

    /// Sets the gauge of queued requests.
    pub(super) fn measure(&self) {
        meters().heartbeat_queue.set(number(self.queue.max_capacity() - self.queue.capacity()));
    }

    /// Submits heartbeats and waits for their commit. Returns the lease of each session, none for one that is
    /// gone.
    pub async fn submit(&self, beats: Vec<Heartbeat>) -> Result<Vec<Option<Leased>>, CommandError> {
        let (reply, answer) = oneshot::channel();
        let queued = QueuedBeats { beats, since: Instant::now(), reply, span: spans::current() };
        self.queue.try_send(queued).map_err(|_| CommandError::Overloaded)?;
        let answer = timeout(ANSWER_MAX, answer).await.map_err(|_| CommandError::OutcomeUnknown)?;
        answer.unwrap_or(Err(CommandError::Unavailable))
    }
}

async fn run(
    store: Store,
    timing: Timing,
    on_idle_change: OnIdleChange,
    mut requests: mpsc::Receiver<QueuedBeats>,
) {
    let mut queued = Vec::with_capacity(BATCH_MAX);
    let mut begun = Instant::now();
    while requests.recv_many(&mut queued, BATCH_MAX).await > 0 {
        if queued.len() < ENOUGH {
            sleep_until(begun + APART).await;
            let room = BATCH_MAX - queued.len();
            requests.recv_many(&mut queued, room).now_or_never();
        }
        begun = Instant::now();
        queued.retain(|request| request.since.elapsed() < ANSWER_MAX);
        if queued.is_empty() {
            continue;
        }
        let span = spans::batch(queued.iter().map(|request| &request.span), queued.len());
        match measured(&store, &timing, &merge(&queued)).instrument(span).await {
            Ok(alive) => answer(&mut queued, &alive, &on_idle_change),
            Err(error) => {
                if let Some(suppressed) = throttle::admit("a batch of heartbeats failed", error.name()) {
                    tracing::warn!(%error, requests = queued.len(), suppressed, "a batch of heartbeats failed");
                }
                for request in queued.drain(..) {
                    let _ = request.reply.send(Err((&error).into()));
                }
            }
        }
    }
}

async fn measured(store: &Store, timing: &Timing, beats: &[Heartbeat]) -> Result<Vec<Alive>, StoreError> {
    let (meters, started) = (meters(), Instant::now());
    let result = attempt(store, timing, beats).await;
    match &result {
        Ok(alive) => {
            meters.heartbeat_commits.increment(1);
            meters.heartbeat_duration.record(started.elapsed());
            meters.heartbeat_batch.record(number(beats.len()));
            meters.heartbeats.count("alive", alive.len() as u64);
            meters.heartbeats.count("gone", beats.len().saturating_sub(alive.len()) as u64);
        }
        Err(error) => meters.heartbeat_failures.count(error.name(), 1),
    }
    result
}

/// Retries once after a quick failure: heartbeats are idempotent, and the connection may just have been a
/// dead one.
async fn attempt(store: &Store, timing: &Timing, beats: &[Heartbeat]) -> Result<Vec<Alive>, StoreError> {
    let started = Instant::now();
    let once =
        || bounded(store.heartbeat(beats, &timing.pace, timing.idle_after)).instrument(spans::commit());
    match once().await {
        Err(_) if started.elapsed() < crate::store::CALL_MAX / 4 => once().await,
        result => result,
    }
}

/// Coalesces heartbeats to one for each session, sorted: an update must not meet the same row twice. The
/// newest wins, but any of them may say that the user was active. Heartbeats in the names of different users
/// stay apart: only one can be right.
fn merge(queued: &[QueuedBeats]) -> Vec<Heartbeat> {
    let mut merged: BTreeMap<(SessionId, Option<&str>), Heartbeat> = BTreeMap::new();
    for beat in queued.iter().flat_map(|q| &q.beats) {
        let key = (beat.session, beat.user.as_ref().map(|u| u.as_str()));
        match merged.get_mut(&key) {
            None => drop(merged.insert(key, beat.clone())),
            Some(kept) if beat.seq >= kept.seq => {
                let active = kept.active || beat.active;
                let visible = beat.visible.or(kept.visible);
                *kept = Heartbeat { active, visible, ..beat.clone() };
            }
            Some(_) => {}
        }
    }
    merged.into_values().collect()
}

/// Answers each request. The session of another user looks like one that does not exist.
fn answer(queued: &mut Vec<QueuedBeats>, alive: &[Alive], on_idle_change: &OnIdleChange) {
    let due: Vec<_> = alive.iter().filter(|a| a.idle_due).map(|a| SessionId(a.session_id)).collect();
    if !due.is_empty() {
        on_idle_change(due);
    }
    let found: HashMap<SessionId, &Alive> = alive.iter().map(|a| (SessionId(a.session_id), a)).collect();
    for QueuedBeats { beats, reply, .. } in queued.drain(..) {
        let own = |beat: &Heartbeat| {
            let alive = found.get(&beat.session)?;
            let may = beat.user.as_ref().is_none_or(|user| user.as_str() == alive.user_id);
            may.then(|| alive.leased())
        };
        let _ = reply.send(Ok(beats.iter().map(own).collect())); // the caller may be gone
    }
}
