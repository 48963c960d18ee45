//! Removes sessions whose lease ran out, and completes leaves whose grace is over. There is no leader: every
//! replica sweeps, and a sweep that finds another one running is a no-op. It depends on no heartbeat.

use std::time::Duration;

use tokio::time::Instant;

use super::Periodic;
use crate::hub::Hub;
use crate::measure::meters;
use crate::store::{Store, StoreError, bounded};

/// Sweeps.
pub struct Sweeper {
    /// The database.
    pub store: Store,
    /// Time between sweeps.
    pub interval: Duration,
    /// The shortest lease, apart from the settings of rooms.
    pub lease: Duration,
    /// Holds the settings of rooms.
    pub hub: Hub,
}

impl Periodic for Sweeper {
    const NAME: &'static str = "sweeper";

    fn period(&self) -> Duration {
        self.interval
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        let started = Instant::now();
        let (mut expired, mut departed) = (0, 0);
        let lease = self.hub.settings().all().lease_min().map_or(self.lease, |set| set.min(self.lease));
        loop {
            let swept = bounded(self.store.sweep(self.interval, lease)).await?;
            expired += swept.expired;
            departed += swept.departed;
            let progress = swept.expired + swept.departed > 0;
            if !swept.more || swept.recovering || !progress {
                break;
            }
        }
        let meters = meters();
        meters.sweeps.increment(1);
        meters.sweep_duration.record(started.elapsed());
        meters.expired.increment(u64::try_from(expired).unwrap_or(0));
        meters.departed.increment(u64::try_from(departed).unwrap_or(0));
        Ok((expired + departed > 0).then(|| format!("{expired} sessions expired, {departed} members gone")))
    }
}
