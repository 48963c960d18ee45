//! The state that all handlers share: the parts of a replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::auth::{Bars, Keys, TokenKey};
use crate::commands::Commands;
use crate::http::request::checked::Checked;
use crate::http::request::limits::Limits;
use crate::hub::Hub;
use crate::settings::{ErasureBy, ProfilesBy};
use crate::store::{Store, StoreError};
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
    /// The rights with which sessions were last checked.
    pub checked: Checked,
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
    /// Refreshes the cache of who is refused if it has changed, and lets streams check whether they must end.
    pub async fn read_barred(&self) -> Result<bool, StoreError> {
        let known = self.keys.barred().changes();
        // In a task of its own: a client that goes away must not cancel a query.
        let read = self.store.detached(move |store| async move {
            let changes = store.access_changes().await?; // first, or a change in between is missed
            if known == Some(changes) {
                return Ok(None);
            }
            let revoked = store.revocations().await?.into_iter().collect();
            Ok(Some(Bars { changes: Some(changes), revoked }))
        });
        let Some(bars) = read.await? else { return Ok(false) };
        self.keys.barred().set(bars);
        self.hub.rouse().await;
        Ok(true)
    }

    /// The same after a call that changed it. If it fails, the task that does it every second succeeds later.
    pub async fn follow_barred(&self) {
        if let Err(error) = self.read_barred().await {
            tracing::warn!(%error, "who is refused cannot be read; tries again every second");
        }
    }

    /// Whether the replica is shutting down.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
