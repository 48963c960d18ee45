//! The sweep: ends what has run out.

use std::time::Duration;

use super::{Store, StoreError};

/// Sessions ended in one batch of a sweep. About 50 ms of work; more would hold room locks for longer than a
/// join should wait.
const SWEEP_BATCH: i32 = 1000;

/// Sessions ended a second after an outage, so that a mass expiry does not melt the watchers.
const SWEEP_RECOVERING: i32 = 500;

/// What a batch of a sweep did.
#[derive(Clone, Copy, Debug, Default, sqlx::FromRow)]
pub struct Swept {
    /// Sessions whose lease ran out.
    pub expired: i32,
    /// Members gone, by expiry or by the end of a leave's grace.
    pub departed: i32,
    /// Whether more is waiting.
    pub more: bool,
    /// Whether departures are being spread after an outage.
    pub recovering: bool,
}

impl Store {
    /// One batch. `lease` is the shortest in use.
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
