//! When each worker last ticked: the health check that finds a stuck one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::messages::WorkerId;

/// The workers that run, each with its last tick.
#[derive(Default)]
pub(super) struct Pulse(Mutex<HashMap<WorkerId, Instant>>);

impl Pulse {
    pub(super) fn tick(&self, worker: WorkerId, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, now);
    }

    /// Removes a worker whose thread ended. It is not stuck: actix starts another.
    pub(super) fn end(&self, worker: WorkerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
    }

    /// Whether every worker ticked within `patience`.
    pub(super) fn is_regular(&self, now: Instant, patience: Duration) -> bool {
        let ticked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ticked.values().all(|tick| now.duration_since(*tick) <= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_ticks_no_more_is_missed_and_one_that_ended_is_not() {
        let (pulse, begin) = (Pulse::default(), Instant::now());
        let regular =
            |seconds| pulse.is_regular(begin + Duration::from_secs(seconds), Duration::from_secs(10));
        assert!(regular(100), "none has begun");
        pulse.tick(0, begin);
        pulse.tick(1, begin + Duration::from_secs(5));
        assert!(regular(10));
        assert!(!regular(11));
        pulse.tick(0, begin + Duration::from_secs(11));
        assert!(regular(15));
        assert!(!regular(16));
        pulse.end(1);
        assert!(regular(16));
    }
}
