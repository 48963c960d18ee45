//! The connection that hears notifications, and the nonce that proves it does.

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::checkout::ACQUIRE_MAX;
use super::{Store, StoreError};

/// The one channel.
pub const CHANNEL: &str = "headcount";

impl Store {
    /// Sends a nonce through a pooled connection. A listener that does not hear it is deaf.
    pub async fn send_nonce(&self, nonce: &str) -> Result<(), StoreError> {
        self.query("select pg_notify($1, $2)").bind(CHANNEL).bind(nonce).run().await
    }
}

/// Opens a connection of its own and listens. Whoever holds it must treat an `Err` and a `None` of `try_recv`
/// alike: something may have been missed.
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
