//! The connection that listens for notifications, and the nonce that proves that it hears them.

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::checkout::ACQUIRE_MAX;
use super::{Store, StoreError};
use crate::domain::hint::MarkKey;

/// The channel of all notifications.
pub const CHANNEL: &str = "headcount";

impl Store {
    /// Sends a nonce through a pooled connection. It is a health check of the listener: if the nonce does not arrive,
    /// the listener misses notifications.
    pub async fn send_nonce(&self, nonce: &str) -> Result<(), StoreError> {
        self.query("select pg_notify($1, $2)").bind(CHANNEL).bind(nonce).run().await
    }
}

impl Store {
    /// The key of the marks by which notifications name rooms.
    pub async fn mark_key(&self) -> Result<MarkKey, StoreError> {
        self.query("select headcount.notification_key()").value().await.map(MarkKey::new)
    }
}

/// Opens a separate connection and listens on it. The caller must treat an `Err` and a `None` of `try_recv` alike:
/// notifications may have been missed.
pub async fn listen(options: PgConnectOptions, replica: &str) -> Result<PgListener, StoreError> {
    let options = options.application_name(&format!("headcount-listener {replica}"));
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_MAX).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
