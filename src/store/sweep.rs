//! The sweep: ends sessions whose lease ran out, and leaves whose grace is over.

use std::time::Duration;

use super::{Store, StoreError};

/// Sessions ended in one batch of a sweep. A batch is about 50 ms of work; a larger one would hold room locks for
/// longer than a join should wait.
const SWEEP_BATCH: i32 = 1000;

/// Sessions ended in a second after an outage. It throttles a mass expiry, so that watchers are not flooded.
const SWEEP_RECOVERING: i32 = 500;

/// The result of one batch of a sweep.
#[derive(Clone, Copy, Debug, Default, sqlx::FromRow)]
pub struct Swept {
    /// Sessions whose lease ran out.
    pub expired: i32,
    /// Members that left, by expiry or because the grace of a leave ended.
    pub departed: i32,
    /// Whether there is more to sweep.
    pub more: bool,
    /// Whether departures are throttled after an outage.
    pub recovering: bool,
}

impl Store {
    /// Runs one batch. `lease` is the shortest in use.
    pub async fn sweep(&self, interval: Duration, lease: Duration) -> Result<Swept, StoreError> {
        self.query("select s.* from headcount.rules, headcount.sweep($1, $2, $3, $4) s")
            .bind(interval)
            .bind(lease)
            .bind(SWEEP_BATCH)
            .bind(SWEEP_RECOVERING)
            .row()
            .await
    }
}
