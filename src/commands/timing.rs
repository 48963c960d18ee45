//! The durations on which commands depend.

use std::time::Duration;

use crate::domain::lease::Pace;

/// The durations on which commands depend.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Heartbeats and leases.
    pub pace: Pace,
    /// A leave with grace is debounced for this long.
    pub leave_grace: Duration,
    /// A session not active for this long is idle.
    pub idle_after: Duration,
}
