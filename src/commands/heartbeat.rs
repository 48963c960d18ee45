//! Heartbeat: "session S still lives", for every room it is in. Idempotent. Never creates a session.

use super::{CommandError, Commands};
use crate::store::commands::Leased;
use crate::store::heartbeats::Heartbeat;

impl Commands {
    /// Renews leases. Returns the lease of each session, none for one that is gone.
    pub async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<Option<Leased>>, CommandError> {
        self.beats.submit(beats).await
    }
}
