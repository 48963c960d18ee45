//! Listens for notifications of other replicas' commits. Each is only a hint: if one is lost or wrong, or the
//! connection is away, the hub's poll finds the change, 2 s later at worst.
//!
//! A connection that lost notifications does not always report it, and a half-open one never does. So every
//! error and every end counts as a gap. A health check sends a nonce through another connection every 5 s; if
//! it is not heard, the listener reconnects.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::domain::hint::{self, Hint};
use crate::hub::{Hearing, Hub};
use crate::measure::meters;
use crate::store::{Store, StoreError, listen::listen};

/// Time between two nonces.
const NONCE_EVERY: Duration = Duration::from_secs(5);

/// The first character of a nonce. No mark has it, so no nonce is parsed as a hint.
const NONCE: char = '?';

/// Timeout of a nonce: if it is not heard after this long, it is lost.
const NONCE_MAX: Duration = Duration::from_secs(5);

/// Delay before a failed connection is retried.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Timeout of opening the connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The payload that announces new settings of rooms. Like a nonce, it is never parsed as a hint.
const SETTINGS: &str = "!settings";

/// Listens.
pub struct Listener {
    /// Sends the nonces.
    pub store: Store,
    /// Options of a direct connection.
    pub options: PgConnectOptions,
    /// Gets the hints.
    pub hub: Hub,
}

/// Why a connection was given up.
#[derive(Debug)]
enum Gap {
    Connection,
    Deaf,
}

impl Listener {
    /// Listens for ever.
    pub async fn run(self) {
        self.hub.hear(Hearing::Away);
        loop {
            if let Ok(Ok(listener)) = timeout(CONNECT_MAX, self.connect()).await {
                self.hub.resync(); // earlier notifications are lost
                self.hub.settings().nudge();
                self.hub.hear(Hearing::On);
                let gap = self.hear(listener).await;
                meters().listener_gaps.increment(1);
                tracing::warn!(?gap, "the listener missed something; watched rooms are read again");
            }
            self.hub.hear(Hearing::Away);
            sleep(RETRY_AFTER).await;
        }
    }

    async fn connect(&self) -> Result<PgListener, StoreError> {
        // At every connection, because it may be to another database: one that was restored.
        self.hub.know_marks(self.store.detached(|store| async move { store.mark_key().await }).await?);
        listen(self.options.clone(), self.store.replica()).await
    }

    async fn hear(&self, mut listener: PgListener) -> Gap {
        let mut nonce = String::new();
        let mut due = Instant::now();
        let mut sent_at = due;
        loop {
            tokio::select! {
                heard = listener.try_recv() => match heard {
                    Ok(Some(notification)) if notification.payload() == nonce => {
                        meters().listener_lag.record(sent_at.elapsed());
                        nonce.clear();
                    }
                    Ok(Some(notification)) if notification.payload() == SETTINGS => self.hub.settings().nudge(),
                    Ok(Some(notification)) if notification.payload().starts_with(NONCE) => {} // another replica's
                    Ok(Some(notification)) => {
                        meters().notifications.increment(1);
                        self.hub.hint("listener", hint::parse(notification.payload()).map(Hint::Mark));
                    }
                    Ok(None) | Err(_) => return Gap::Connection,
                },
                () = tokio::time::sleep_until(due) => {
                    if !nonce.is_empty() {
                        return Gap::Deaf;
                    }
                    nonce = format!("{NONCE}{}", Uuid::new_v4());
                    sent_at = Instant::now();
                    let sent = nonce.clone();
                    match self.store.detached(move |store| async move { store.send_nonce(&sent).await }).await {
                        Ok(()) => due = Instant::now() + NONCE_MAX,
                        Err(_) => { // the database is away for others too: that says nothing about this connection
                            nonce.clear();
                            due = Instant::now() + NONCE_EVERY;
                        }
                    }
                }
            }
        }
    }
}
