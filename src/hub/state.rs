//! What the parts of the hub share: hinted rooms, staleness, and counts.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::pulse::Pulse;
use super::room_settings::RoomSettingsCache;
use crate::domain::hint::{Hint, MarkKey};

#[derive(Default)]
pub(super) struct Hints {
    pub(super) rooms: HashSet<Hint>,
    pub(super) all: bool,
}

/// Whether notifications of other replicas' commits reach this replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hearing {
    /// It does not listen, by configuration.
    Off,
    /// It should listen, but has no connection.
    Away,
    /// It listens.
    On,
}

pub(super) struct HubState {
    pub(super) hints: Mutex<Hints>,
    /// The key of marks, once the listener has read it.
    pub(super) mark_key: Mutex<Option<MarkKey>>,
    pub(super) wake: Notify,
    pub(super) stale: AtomicBool,
    pub(super) settings: RoomSettingsCache,
    pub(super) hearing: AtomicU8,
    pub(super) rooms: AtomicUsize,
    pub(super) watchers: AtomicUsize,
    pub(super) workers: AtomicUsize,
    pub(super) pulse: Pulse,
}

/// Counts an open stream for as long as it lives.
pub(super) struct Counted(Arc<HubState>);

impl Counted {
    pub(super) fn new(shared: Arc<HubState>) -> Self {
        shared.watchers.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
