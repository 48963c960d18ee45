//! Updates rosters when sessions become idle or active again. The heartbeat that notices queues the session
//! here; repeats are coalesced.
//!
//! Bounded: at most [`WAITING_MAX`] sessions wait. One more is dropped: its next heartbeat is the retry.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Periodic;
use crate::domain::id::SessionId;
use crate::store::{Store, StoreError, bounded};

const WAITING_MAX: usize = 10_000;

/// Sessions in one transaction, at most.
const BATCH_MAX: usize = 200;

/// Refreshes idleness.
pub struct Idle {
    /// The database.
    pub store: Store,
    /// A session not active for this long is idle.
    pub idle_after: Duration,
    /// The queue of sessions to look at.
    pub waiting: IdleQueue,
}

/// The queue of sessions to look at. Cheap to clone.
#[derive(Clone, Default)]
pub struct IdleQueue(Arc<Mutex<BTreeSet<SessionId>>>);

impl IdleQueue {
    /// Adds sessions.
    pub fn add(&self, sessions: Vec<SessionId>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = WAITING_MAX.saturating_sub(waiting.len());
        waiting.extend(sessions.into_iter().take(room));
    }

    fn take(&self) -> Vec<SessionId> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting).into_iter().collect()
    }
}

impl Periodic for Idle {
    const NAME: &'static str = "idle";

    fn period(&self) -> Duration {
        Duration::from_millis(500)
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        let sessions = self.waiting.take();
        for batch in sessions.chunks(BATCH_MAX) {
            bounded(self.store.refresh_idle(batch, self.idle_after)).await?;
        }
        Ok((!sessions.is_empty()).then(|| format!("looked at {} sessions", sessions.len())))
    }
}
