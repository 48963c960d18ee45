//! Background tasks, which run whether or not requests come. Periodic tasks share one shape: a name, a
//! period, and `run_once`, which looks at the database and reports what it did. A failed run is not retried
//! within the task: the next period is the retry.
//!
//! All loops that run beside requests, and where each is started:
//!
//! | loop | file | started by |
//! |---|---|---|
//! | sweep, trim, erasures, idleness, gauges, fold of metrics, settings of rooms, webhooks | here, each a [`Periodic`] | `app` |
//! | listener | here | `app` |
//! | token keys, certificate, callers that are gone, callers that are refused | `app`, each a [`Periodic`]: they need `http` and `auth`, which this layer does not know | `app` |
//! | token keys from a URL | `auth/remote.rs` | `app` |
//! | watchdog of systemd | `systemd.rs` | `app` |
//! | two lanes of the writer | `commands/writer.rs` | `Commands::start` |
//! | batches of heartbeats | `commands/heartbeat_batcher.rs` | `Commands::start` |
//! | feed of watched rooms | `hub/feed.rs` | `Hub::start` |
//! | followed users | `hub/follow.rs` | `Hub::start` |
//! | fan of a worker thread | `hub/fan.rs` | the HTTP server, one a thread |
//!
//! `app` stops what it starts, after the last request. The loops of `commands` and `hub` serve requests: when
//! the last handle is dropped, they drain their queues and end, so that no submitted command is lost.

pub mod eraser;
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

/// A task that runs once every period.
pub trait Periodic: Send + 'static {
    /// Its name in logs.
    const NAME: &'static str;

    /// Time between two runs.
    fn period(&self) -> Duration;

    /// Waits for a nudge to run before the period is over. A nudge says when to look, never at what.
    fn nudged(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// One run. Returns a sentence for the log if there is something to say.
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
