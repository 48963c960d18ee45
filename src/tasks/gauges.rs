//! Reads the gauges of the database: seldom, and never because of a scrape.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Periodic;
use crate::hub::Hub;
use crate::measure::meters;
use crate::store::{Store, StoreError, bounded};

/// Between two readings.
const PERIOD: Duration = Duration::from_secs(15);

/// Watched rooms whose versions are compared in one reading, at most.
const ROOMS_MAX: usize = 1000;

/// Timeout of the request to the hub, which may be busy.
const HUB_MAX: Duration = Duration::from_secs(2);

/// The tables that have gauges. Others of the schema are small, or not ours.
const TABLES: [&str; 6] = ["users", "presence", "memberships", "rooms", "events", "departures"];

/// Reads gauges.
pub struct ReadGauges {
    /// The database.
    pub store: Store,
    /// Its watched rooms are compared with the log, for the version lag.
    pub hub: Hub,
    /// The shortest lease in use.
    pub lease: Duration,
}

impl Periodic for ReadGauges {
    const NAME: &'static str = "figures";

    fn period(&self) -> Duration {
        PERIOD
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        crate::measure::process::read();
        let meters = meters();
        let lease = self.hub.settings().all().lease_min().map_or(self.lease, |set| set.min(self.lease));
        let sweep = bounded(self.store.sweep_gauges(lease)).await?;
        meters.sweep_age.set(sweep.age);
        meters.outage_rule.set(f64::from(u8::from(sweep.outage_rule)));
        for table in bounded(self.store.table_gauges()).await? {
            if !TABLES.contains(&table.name.as_str()) {
                continue;
            }
            meters.table_updates.set(&table.name, table.updates);
            meters.table_hot_updates.set(&table.name, table.hot_updates);
            meters.table_rows.set(&table.name, table.rows);
            meters.table_dead_rows.set(&table.name, table.dead_rows);
            meters.table_bytes.set(&table.name, table.bytes);
        }
        if let Ok(Some(positions)) = tokio::time::timeout(HUB_MAX, self.hub.positions(ROOMS_MAX)).await {
            let behind = bounded(self.store.behind(&positions)).await?;
            #[expect(clippy::cast_precision_loss, reason = "a number of events is far below 2^52")]
            meters.version_lag.set(behind as f64);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        meters.figures_at.set(now.as_secs_f64());
        Ok(None)
    }
}

/// Drains recorded durations into their buckets. Without it, and without scrapes, the buffer would grow
/// without bound.
pub struct Tidy;

impl Periodic for Tidy {
    const NAME: &'static str = "tidy";

    fn period(&self) -> Duration {
        crate::measure::TIDY_EVERY
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        crate::measure::tidy();
        Ok(None)
    }
}
