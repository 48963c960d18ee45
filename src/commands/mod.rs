//! What clients can ask for, one verb a file. Writes go through the batching [`writer`], heartbeats through the
//! [`heartbeat_batcher`]; both run in tasks of their own that no client can cancel.

pub mod heartbeat;
pub mod heartbeat_batcher;
pub mod join;
pub mod kick;
pub mod leave;
pub mod profile;
mod schedule;
pub mod update;
pub mod webhook;
pub mod writer;

use std::sync::Arc;
use std::time::Duration;

use crate::domain::hint::Hint;
use crate::domain::id::SessionId;
use crate::domain::lease::Pace;
use crate::store::commands::UserLimits;
use crate::store::{Store, StoreError};

/// Told of every room that a commit of this replica moved, before its callers are answered.
pub type OnCommit = Arc<dyn Fn(Vec<Hint>) + Send + Sync>;

/// Told of sessions whose idleness changed.
pub type OnIdleChange = Arc<dyn Fn(Vec<SessionId>) + Send + Sync>;

/// Why a command was not carried out, as far as its caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The queue is full. Nothing was done.
    #[error("overloaded")]
    Overloaded,
    /// The database is away. Nothing was done.
    #[error("the database is away")]
    Unavailable,
    /// The database did not answer in time. It may have been done.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// Somebody holds the room. Nothing was done.
    #[error("the room is busy")]
    Busy,
    /// The user is in as many rooms as they may be. Nothing was done.
    #[error("too many rooms")]
    TooManyRooms,
    /// The user has as many sessions as they may have. Nothing was done.
    #[error("too many sessions")]
    TooManySessions,
    /// The room has as many members as it takes. Nothing was done.
    #[error("the room is full")]
    RoomFull,
    /// The session is unknown, somebody else's, or not in that room. Nothing was done.
    #[error("no such session in that room")]
    NoSession,
    /// The database refused the data. Nothing was done.
    #[error("refused by the database")]
    Refused,
    /// A fault of ours.
    #[error("internal error")]
    Internal,
}

impl From<&StoreError> for CommandError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable => Self::Unavailable,
            StoreError::OutcomeUnknown => Self::OutcomeUnknown,
            StoreError::Busy => Self::Busy,
            StoreError::Refused(_) => Self::Refused,
            StoreError::Bug(_) => Self::Internal,
        }
    }
}

/// Times that commands need to know.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Heartbeats and leases.
    pub pace: Pace,
    /// A leave with grace waits this long.
    pub leave_grace: Duration,
    /// A session not active for this long is idle.
    pub idle_after: Duration,
}

/// Everything that can be asked for. Cheap to clone.
#[derive(Clone)]
pub struct Commands {
    store: Store,
    writer: writer::Writer,
    beats: heartbeat_batcher::HeartbeatBatcher,
    timing: Timing,
}

impl Commands {
    /// Starts the batchers.
    pub fn start(
        store: Store,
        timing: Timing,
        limits: UserLimits,
        on_commit: OnCommit,
        on_idle_change: OnIdleChange,
    ) -> Self {
        let writer = writer::Writer::start(store.clone(), limits, on_commit);
        let beats = heartbeat_batcher::HeartbeatBatcher::start(store.clone(), timing, on_idle_change);
        Self { store, writer, beats, timing }
    }

    /// Says how much waits to be committed.
    pub fn measure(&self) {
        self.writer.measure();
        self.beats.measure();
    }

    /// Heartbeats and leases.
    pub fn pace(&self) -> &Pace {
        &self.timing.pace
    }
}
