//! This replica's cache of the settings of rooms. A task refreshes it when nudged, and every 2 s anyway.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::domain::id::RoomId;
use crate::domain::room_settings::{Patterns, RoomSettings};

/// The settings as they were last read.
#[derive(Debug, Default)]
pub struct RoomSettingsCache {
    known: RwLock<Arc<Patterns>>,
    nudge: Notify,
}

impl RoomSettingsCache {
    /// Replaces the cached settings.
    pub fn set(&self, patterns: Patterns) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(patterns);
    }

    /// All settings.
    pub fn all(&self) -> Arc<Patterns> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The settings of a room.
    pub fn of(&self, room: &RoomId) -> RoomSettings {
        self.all().of(room)
    }

    /// Notes that the settings may have changed.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits for a nudge.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }
}
