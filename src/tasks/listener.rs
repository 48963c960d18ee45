//! Hears of other replicas' commits. Everything it says is a hint: when it is deaf, wrong or away, watched rooms
//! are found by the hub's poll, 2 s later at worst.
//!
//! A connection that lost notifications does not always say so, and a half-open one never does. So every error and
//! every end is a gap, and a nonce is sent through another connection every 5 s: unheard, the listener is replaced.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::domain::hint;
use crate::hub::{Hearing, Hub};
use crate::measure::meters;
use crate::store::{Store, StoreError, listen::listen};

/// Between nonces.
const NONCE_EVERY: Duration = Duration::from_secs(5);

/// How a nonce begins: it cannot be in a room's key, so nobody takes one for a hint.
const NONCE: char = '?';

/// A nonce not heard after this long is lost.
const NONCE_MAX: Duration = Duration::from_secs(5);

/// Between attempts to connect.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Opening the connection takes this long at most.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Told when the settings of rooms change. As with a nonce, nobody takes this for a hint.
const SETTINGS: &str = "!settings";

/// Listens.
pub struct Listener {
    /// For nonces.
    pub store: Store,
    /// A direct connection.
    pub options: PgConnectOptions,
    /// Whom to tell.
    pub hub: Hub,
}

/// Why a listener was given up.
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
                self.hub.resync(); // whatever was notified before is not heard
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
                        self.hub.hint("listener", hint::parse(notification.payload()));
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
