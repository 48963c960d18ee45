//! The times that commands need to know.

use std::time::Duration;

use crate::domain::lease::Pace;

/// Times that commands need to know.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Heartbeats and leases.
    pub pace: Pace,
    /// A leave with grace waits this long.
    pub leave_grace: Duration,
    /// A session not active for this long is idle.
    pub idle_after: Duration,
}
