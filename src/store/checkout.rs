//! Connection pools, and a connection that is checked out of one.
//!
//! A connection whose call was cut short (cancelled, timed out, failed) is closed and never returned to the pool,
//! because bytes of that call may still be on the wire.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor, Postgres, pool::PoolConnection};

use super::StoreError;
use crate::measure::{meters, number};

/// Deadline of a database call. It is enforced here, because a commit that waits for a standby ignores
/// `statement_timeout`.
pub const CALL_MAX: Duration = Duration::from_secs(2);

/// Timeout for getting a connection from the pool.
pub(super) const ACQUIRE_MAX: Duration = Duration::from_secs(1);

/// Timeouts of the server session. The server gives up before [`CALL_MAX`] does, and gives up on a locked room before
/// callers do (`commands::writer`).
const SETTINGS: [&str; 4] = [
    "statement_timeout = '1800ms'",
    "lock_timeout = '250ms'",
    "idle_in_transaction_session_timeout = '5s'",
    "timezone = 'UTC'",
];

/// The `set` statements, with the scope `session` or `local` (to the transaction).
fn settings(scope: &str) -> String {
    SETTINGS.map(|setting| format!("set {scope} {setting}")).join("; ")
}

/// Whether connections go to the server or through a pooler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolMode {
    /// A connection is one server session for as long as it lives.
    Direct,
    /// Through a pooler in transaction mode, such as `PgBouncer`: every transaction may get another server session.
    Pooled,
}

/// A connection pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    connections: PgPool,
    /// Value of the label `pool` in metrics.
    name: &'static str,
    mode: PoolMode,
}

impl Pool {
    /// Sets up the pool. No connection is opened yet.
    pub(super) fn new(
        name: &'static str,
        options: PgConnectOptions,
        mode: PoolMode,
        connections_max: u32,
    ) -> Self {
        let connections = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_MAX)
            .test_before_acquire(false) // saves a round trip: a dead connection fails its call and is closed
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    match mode {
                        PoolMode::Direct => {
                            connection.execute(AssertSqlSafe(settings("session"))).await.map(drop)
                        }
                        PoolMode::Pooled => Ok(()), // the session settings would leak to other clients of the pooler
                    }
                })
            })
            .connect_lazy_with(options);
        Self { connections, name, mode }
    }

    /// Whether to cache prepared statements. Not behind a pooler: the next transaction may run in another session.
    pub(super) fn keeps_statements(&self) -> bool {
        self.mode == PoolMode::Direct
    }

    /// Takes a connection from the pool. Behind a pooler, also begins a transaction on it.
    pub(super) async fn checkout(&self) -> Result<Checkout, StoreError> {
        let mut checkout = Checkout { connection: Some(self.acquire().await?), mode: self.mode };
        if self.mode == PoolMode::Pooled {
            let begin = AssertSqlSafe(format!("begin; {}", settings("local")));
            checkout.connection().execute(begin).await?;
        }
        Ok(checkout)
    }

    async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let started = Instant::now();
        let result = self.connections.acquire().await;
        match &result {
            Ok(_) => {
                if let Some(duration) = meters().acquire_duration.of(self.name) {
                    duration.record(started.elapsed());
                }
            }
            Err(sqlx::Error::PoolTimedOut) => meters().acquire_timeouts.count(self.name, 1),
            Err(_) => {} // the caller counts it
        }
        result
    }

    /// Records the gauges of the pool.
    pub(super) fn measure(&self) {
        let meters = meters();
        meters.connections.set(self.name, f64::from(self.connections.size()));
        meters.connections_idle.set(self.name, number(self.connections.num_idle()));
        meters.connections_max.set(self.name, f64::from(self.connections.options().get_max_connections()));
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

/// A connection in use. Only [`Checkout::done`] returns it to the pool; dropping it closes it.
pub(super) struct Checkout {
    connection: Option<PoolConnection<Postgres>>,
    mode: PoolMode,
}

impl Checkout {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("present until done or dropped")
    }

    /// Commits if a transaction was begun, and returns the connection. When this succeeds, the work is durable.
    pub(super) async fn done(mut self) -> Result<(), StoreError> {
        if self.mode == PoolMode::Pooled {
            self.connection().execute("commit").await?;
        }
        drop(self.connection.take());
        Ok(())
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

/// Detects the mode; none when the database is down. Through a pooler in transaction mode, two connections that are
/// open at once can have the same server session. The query uses no prepared statement, which a pooler may not support.
pub async fn pool_mode(options: &PgConnectOptions) -> Option<PoolMode> {
    let asking = async {
        use sqlx::{Connection, Row};
        let mut sessions = Vec::new();
        let mut connections = Vec::new(); // all stay open until the last has answered
        for _ in 0..2 {
            let mut connection = PgConnection::connect_with(options).await?;
            let row = connection.fetch_one(sqlx::raw_sql("select pg_backend_pid()")).await?;
            sessions.push(row.try_get::<i32, _>(0)?);
            connections.push(connection);
        }
        Ok::<_, sqlx::Error>(if sessions[0] == sessions[1] { PoolMode::Pooled } else { PoolMode::Direct })
    };
    tokio::time::timeout(CALL_MAX, asking).await.ok()?.ok()
}
