//! Keeps this replica's knowledge of the settings of rooms up to date. A notification says when to look, and no more:
//! without one they are found 2 s later at worst.

use std::time::Duration;

use super::Periodic;
use crate::hub::Hub;
use crate::store::{Store, StoreError, bounded};

/// Reads settings.
pub struct ReadRoomSettings {
    /// The database.
    pub store: Store,
    /// Whom to tell.
    pub hub: Hub,
}

impl Periodic for ReadRoomSettings {
    const NAME: &'static str = "settings";

    fn period(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn nudged(&self) {
        self.hub.settings().nudged().await;
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        let patterns = bounded(self.store.room_settings()).await?;
        let news = *self.hub.settings().all() != patterns;
        self.hub.settings().set(patterns);
        Ok(news.then(|| "the settings of rooms have changed".to_owned()))
    }
}
