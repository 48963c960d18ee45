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

/// The dependencies of the handlers.
pub struct Service {
    /// Writes.
    pub commands: Commands,
    /// Streams.
    pub hub: Hub,
    /// Reads.
    pub store: Store,
    /// For test messages to webhooks.
    pub webhooks: Hooks,
    /// Credentials.
    pub keys: Keys,
    /// Rate limits, and limits of open streams.
    pub limits: Limits,
    /// The callers that may write names and pictures.
    pub profiles_by: ProfilesBy,
    /// The callers that may erase a user.
    pub erasure_by: ErasureBy,
    /// The greatest age of a stream, before jitter.
    pub max_stream_age: Duration,
    /// In `dev`: tokens are given to anybody, and the demo page is served.
    pub mint: Option<TokenKey>,
    /// Set once, when the replica begins to shut down.
    pub draining: AtomicBool,
}

/// The sender of messages to webhooks, and its policy.
pub struct Hooks {
    /// The sender.
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
