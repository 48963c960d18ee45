//! Makes the log forget users who were erased, in steps of some milliseconds with rests in between, so that the search of a
//! large log slows nobody. There is no leader: replicas take turns, and a step too soon after another one is a no-op.

use std::time::Duration;

use tokio::time::sleep;

use super::Periodic;
use crate::store::{Store, StoreError, bounded};

/// Time between looks at whether anybody was erased: one look at an empty table.
const PERIOD: Duration = Duration::from_secs(1);

/// Between two steps. A step reads 8 MB, so that the 4.9 GB of a day of 200 events a second take two minutes, and other
/// callers have the database nine tenths of the time.
const REST: Duration = Duration::from_millis(200);

/// Erases.
pub struct Eraser {
    /// The database.
    pub store: Store,
}

impl Periodic for Eraser {
    const NAME: &'static str = "eraser";

    fn period(&self) -> Duration {
        PERIOD
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        let mut steps = 0;
        while bounded(self.store.erase_step()).await? {
            steps += 1;
            sleep(REST).await;
        }
        Ok((steps > 0).then(|| format!("the log has forgotten who was erased, after {steps} steps")))
    }
}
