//! Retention: trims the event log and the records of departed sessions. Also creates the log's partitions of
//! the coming days, so that every write finds its partition.

use std::time::Duration;

use super::Periodic;
use crate::store::{Store, StoreError, bounded};

/// Time between trims: at 24 h of retention, about 0.07 % of the log each time.
const PERIOD: Duration = Duration::from_secs(60);

/// Calls in one run, at most, so that a long backlog does not hold a connection for ever.
const CALLS_MAX: usize = 100;

/// Partitions created or dropped in one run, at most: a drop blocks all writes.
const ROTATIONS_MAX: usize = 10;

/// Trims.
pub struct Trimmer {
    /// The database.
    pub store: Store,
    /// How long the log is kept.
    pub retention: Duration,
    /// How long the log is kept for a webhook that lags.
    pub keep: Duration,
}

impl Periodic for Trimmer {
    const NAME: &'static str = "trimmer";

    fn period(&self) -> Duration {
        PERIOD
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        let mut done = Vec::new();
        while done.len() < ROTATIONS_MAX
            && let Some(turn) = bounded(self.store.rotate_days(self.retention, self.keep)).await?
        {
            done.push(turn);
        }
        for _ in 0..CALLS_MAX {
            if !bounded(self.store.trim(self.retention, self.keep)).await? {
                return Ok(Some(done.join(", ")).filter(|done| !done.is_empty()));
            }
        }
        Ok(Some("more to trim; goes on next time".into()))
    }
}
