//! What runs beside the HTTP server, whether or not anybody asks. Periodic tasks share one shape: a name, a
//! period, and `run_once`, which looks at the database and reports what it did. A failed run is not retried within
//! the task: the next period is the retry.
//!
//! All loops that run beside requests, and where each is started:
//!
//! | loop | file | started by |
//! |---|---|---|
//! | sweep, trim, idleness, gauges, fold of metrics, settings of rooms, webhooks | here, each a [`Periodic`] | `app` |
//! | listener | here | `app` |
//! | token keys, certificate, callers that are gone | `app`, each a [`Periodic`]: they need `http` and `auth`, which this layer does not know | `app` |
//! | token keys from a URL | `auth/remote.rs` | `app` |
//! | watchdog of systemd | `systemd.rs` | `app` |
//! | two lanes of the writer | `commands/writer.rs` | `Commands::start` |
//! | batches of heartbeats | `commands/heartbeat_batcher.rs` | `Commands::start` |
//! | feed of watched rooms | `hub/feed.rs` | `Hub::start` |
//! | followed users | `hub/follow.rs` | `Hub::start` |
//! | fan of a worker thread | `hub/fan.rs` | the HTTP server, one a thread |
//!
//! What `app` starts is stopped by it, after the last request. The loops of `commands` and `hub` serve requests: they end
//! by themselves when the last handle is dropped, so that nothing that was handed in is lost.

pub mod gauges;
pub mod idle;
pub mod listener;
pub mod room_settings;
pub mod sweeper;
pub mod trimmer;
pub mod webhooks;

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::store::StoreError;

/// A task that runs again and again.
pub trait Periodic: Send + 'static {
    /// What logs call it.
    const NAME: &'static str;

    /// Between two runs.
    fn period(&self) -> Duration;

    /// Waits for somebody who says that it is worth to run before the period is over. A nudge says look, and not at what.
    fn nudged(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// One run. Gives a sentence when there is something to tell.
    fn run_once(&mut self) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;
}

/// Runs a task for ever.
pub async fn run<T: Periodic>(mut task: T) {
    let mut ticks = interval(task.period());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = task.nudged() => {}
        }
        let result = task.run_once().await;
        match &result {
            Ok(Some(done)) => tracing::debug!(task = T::NAME, "{done}"),
            Ok(None) => {}
            // A failure is logged when it begins, not every period.
            Err(error) if !failing => {
                tracing::warn!(task = T::NAME, %error, "failed; tries again every period");
            }
            Err(_) => {}
        }
        failing = result.is_err();
    }
}
