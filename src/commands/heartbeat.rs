//! Heartbeat: "session S still lives", for every room it is in. Never creates a session.

use super::{CommandError, Commands};
use crate::store::commands::Leased;
use crate::store::heartbeats::Heartbeat;

impl Commands {
    /// Beats. Gives for each the session's lease, none for one that is gone.
    pub async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<Option<Leased>>, CommandError> {
        self.beats.submit(beats).await
    }
}
