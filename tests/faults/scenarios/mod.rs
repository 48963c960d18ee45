//! The faults, one test each. Each is named after what is broken.

mod clients;
mod clock;
mod database;
mod failover;
mod idle;
mod leases;
mod listener;
mod pooler;
mod replicas;
mod resources;
mod soak;
mod storms;

use std::time::Duration;

/// Seconds, to be read as a table.
const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
