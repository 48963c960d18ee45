//! Pools of connections, and a connection in use.
//!
//! A connection whose call was cut short (cancelled, timed out, failed) is closed, never pooled again: nobody
//! knows what is still on its wire.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor, Postgres, pool::PoolConnection};

use super::StoreError;
use crate::measure::{meters, number};

/// No database call lasts longer, whatever the server does: a commit that waits for a standby ignores
/// `statement_timeout`, so the deadline is ours.
pub const CALL_MAX: Duration = Duration::from_secs(2);

/// Waiting for a free connection, at most.
pub(super) const ACQUIRE_MAX: Duration = Duration::from_secs(1);

/// What the server is told, so that it gives up before we do; about a held room before callers do (`commands::writer`).
const SETTINGS: [&str; 4] = [
    "statement_timeout = '1800ms'",
    "lock_timeout = '250ms'",
    "idle_in_transaction_session_timeout = '5s'",
    "timezone = 'UTC'",
];

/// Sets them, for a `session` or `local` to a transaction.
fn settings(scope: &str) -> String {
    SETTINGS.map(|setting| format!("set {scope} {setting}")).join("; ")
}

/// How the database is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolMode {
    /// A connection is a session of the server.
    Direct,
    /// Through a pooler in transaction mode, such as `PgBouncer`: a connection is another session in every transaction.
    Pooled,
}

/// Some connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    connections: PgPool,
    /// What metrics call it.
    name: &'static str,
    mode: PoolMode,
}

impl Pool {
    /// Prepares connections; none is opened yet.
    pub(super) fn new(
        name: &'static str,
        options: PgConnectOptions,
        mode: PoolMode,
        connections_max: u32,
    ) -> Self {
        let connections = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_MAX)
            .test_before_acquire(false) // a round trip for nothing: a dead connection fails its call and is closed
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    match mode {
                        PoolMode::Direct => {
                            connection.execute(AssertSqlSafe(settings("session"))).await.map(drop)
                        }
                        PoolMode::Pooled => Ok(()), // they would be somebody else's
                    }
                })
            })
            .connect_lazy_with(options);
        Self { connections, name, mode }
    }

    /// Whether a connection may keep what it prepared: behind a pooler the next transaction is another session's.
    pub(super) fn keeps_statements(&self) -> bool {
        self.mode == PoolMode::Direct
    }

    /// Takes a connection, and begins a transaction on it behind a pooler.
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
            Err(_) => {} // whoever called counts it
        }
        result
    }

    /// Says how many connections there are.
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

/// A pooled connection in use. Goes back to the pool by [`Checkout::done`] only; dropped otherwise, it is closed.
pub(super) struct Checkout {
    connection: Option<PoolConnection<Postgres>>,
    mode: PoolMode,
}

impl Checkout {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("present until done or dropped")
    }

    /// After this what was done is durable.
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

/// How this database is reached; none when it is away. Through a pooler in transaction mode two connections that are
/// open at once can be the same session of the server. Asked without preparing anything.
pub async fn pool_mode(options: &PgConnectOptions) -> Option<PoolMode> {
    let asking = async {
        use sqlx::{Connection, Row};
        let mut sessions = Vec::new();
        let mut connections = Vec::new(); // all open until the last is asked
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
