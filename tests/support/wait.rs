//! How tests wait: for a fact, which they poll until a deadline. Where time itself is what is tried, for a time: a fault
//! that lasts, a link that delays, a lease that runs out.
//!
//! No test sleeps (`tests/tidy.rs`). One that lets time pass in the hope that something has
//! happened by then is slow where the hope is right and flaky where it is not.

#![allow(dead_code, reason = "every test binary uses a part of this")]

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two looks: short beside everything that is waited for, long beside a look.
const LOOK: Duration = Duration::from_millis(10);

/// Polls until there is something, and gives it. Panics with the fact that did not come within this time.
pub async fn until<T>(fact: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout(within, looking).await.unwrap_or_else(|_| panic!("not within {within:?}: {fact}"))
}

/// Polls until it is so.
pub async fn until_so(fact: &str, within: Duration, mut look: impl AsyncFnMut() -> bool) {
    until(fact, within, async || look().await.then_some(())).await;
}

/// Returns when a fault, or load without one, has lasted this long. For the fault tests only: there time itself is tried.
pub async fn elapse(time: Duration) {
    let _ = timeout(time, std::future::pending::<()>()).await;
}
