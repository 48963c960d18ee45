//! The commands of clients, one verb a file. Writes go through the batching [`writer`], heartbeats through
//! the [`heartbeat_batcher`]; both run in tasks of their own that no client can cancel.

pub mod error;
pub mod heartbeat;
pub mod heartbeat_batcher;
pub mod join;
pub mod kick;
pub mod leave;
pub mod many_rooms;
pub mod profile;

mod schedule;
pub mod timing;
pub mod together;
pub mod update;
pub mod webhook;
pub mod writer;

pub use error::CommandError;
pub use heartbeat_batcher::OnIdleChange;
pub use timing::Timing;
pub use writer::OnCommit;

use crate::domain::lease::Pace;
use crate::store::Store;
use crate::store::commands::UserLimits;

/// The handle of all commands. Cheap to clone.
#[derive(Clone)]
pub struct Commands {
    store: Store,
    writer: writer::Writer,
    together: together::Together,
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
        let together = together::Together::new(store.clone(), limits, on_commit.clone());
        let writer = writer::Writer::start(store.clone(), limits, on_commit);
        let beats = heartbeat_batcher::HeartbeatBatcher::start(store.clone(), timing, on_idle_change);
        Self { store, writer, together, beats, timing }
    }

    /// Sets the gauges of the queues.
    pub fn measure(&self) {
        self.writer.measure();
        self.beats.measure();
    }

    /// Heartbeats and leases.
    pub fn pace(&self) -> &Pace {
        &self.timing.pace
    }
}
