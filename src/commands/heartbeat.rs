//! Heartbeat: "session S still lives", for every room it is in. Never creates a session.

use super::{Commands, Failure};
use crate::store::heartbeats::Heartbeat;

impl Commands {
    /// Beats. Gives for each whether the session counts as visible, none for one that is gone.
    pub async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<Option<bool>>, Failure> {
        self.beats.submit(beats).await
    }
}
