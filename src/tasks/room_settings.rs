//! Refreshes this replica's cache of the settings of rooms. A notification only says when to look; if it is
//! lost, the next period finds the change, 2 s later at worst.

use std::time::Duration;

use super::Periodic;
use crate::hub::Hub;
use crate::store::{Store, StoreError, bounded};

/// Refreshes the cache.
pub struct ReadRoomSettings {
    /// The database.
    pub store: Store,
    /// Holds the cache.
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
