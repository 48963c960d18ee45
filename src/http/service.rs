//! The state that all handlers share: the parts of a replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::auth::{Keys, TokenKey};
use crate::commands::Commands;
use crate::http::request::limits::Limits;
use crate::hub::Hub;
use crate::settings::{ErasureBy, ProfilesBy};
use crate::store::Store;
use crate::webhooks::WebhookSender;
use crate::webhooks::endpoint::Plain;

/// What the handlers work with.
pub struct Service {
    /// Writes.
    pub commands: Commands,
    /// Streams.
    pub hub: Hub,
    /// Reads.
    pub store: Store,
    /// For trying webhooks.
    pub webhooks: Hooks,
    /// Credentials.
    pub keys: Keys,
    /// How much one caller may ask for.
    pub limits: Limits,
    /// Who says what a user is called.
    pub profiles_by: ProfilesBy,
    /// Who may erase a user.
    pub erasure_by: ErasureBy,
    /// Streams end after about this long.
    pub max_stream_age: Duration,
    /// In `dev`: tokens are given to anybody, and the demo page is served.
    pub mint: Option<TokenKey>,
    /// Set once, when the replica begins to shut down.
    pub draining: AtomicBool,
}

/// What sends messages to webhooks.
pub struct Hooks {
    /// Sends.
    pub sender: WebhookSender,
    /// Whether plain HTTP may leave this machine.
    pub plain: Plain,
}

impl Service {
    /// Whether the replica is shutting down.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
