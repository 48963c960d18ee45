//! The only SQL outside `migrations/`, one file per table, and the connections it runs on.
//!
//! Every call is one statement, so nothing of ours is ever inside an open transaction between two round trips; behind a
//! pooler in transaction mode it is one transaction, because only that long a connection there stays the same.
//! A connection whose call was cut short (cancelled, timed out, failed) is closed, never pooled again: nobody
//! knows what is still on its wire.

pub mod checkup;
pub mod commands;
pub mod deliveries;
pub mod embedded;
pub mod error;
pub mod events;
pub mod gauges;
pub mod heartbeats;
pub mod history;
pub mod listen;
pub mod overview;
pub mod room_settings;
pub mod rooms;
pub mod rosters;
pub mod schema;
pub mod schema_version;
pub mod sweep;
pub mod trim;
pub mod users;
pub mod webhooks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, Executor, FromRow, Postgres, pool::PoolConnection};
use tokio::runtime::Handle;

pub use error::StoreError;
pub use schema::{grant, is_away, is_forbidden, migrate};

use crate::measure::{meters, number};

/// No database call lasts longer, whatever the server does: a commit that waits for a standby ignores
/// `statement_timeout`, so the deadline is ours.
pub const CALL_MAX: Duration = Duration::from_secs(2);

/// Waiting for a free connection, at most.
const ACQUIRE_MAX: Duration = Duration::from_secs(1);

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

/// This replica's connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    /// Heartbeats have a connection of their own: readers and writers cannot starve them.
    heartbeats: PgPool,
    runtime: Handle,
    replica: Arc<str>,
    pool_mode: PoolMode,
}

impl Store {
    /// Prepares connections; none is opened yet, so a database that is away is no error here. Calls run on
    /// the current Tokio runtime, whichever thread asks. By the replica's name others find its connections in
    /// `pg_stat_activity`.
    pub fn new(options: PgConnectOptions, pool_mode: PoolMode, connections_max: u32, replica: &str) -> Self {
        let options = options.application_name(&format!("headcount {replica}"));
        let pool = |max| {
            PgPoolOptions::new()
                .max_connections(max)
                .acquire_timeout(ACQUIRE_MAX)
                .test_before_acquire(false) // a round trip for nothing: a dead connection fails its call and is closed
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        match pool_mode {
                            PoolMode::Direct => {
                                connection.execute(AssertSqlSafe(settings("session"))).await.map(drop)
                            }
                            PoolMode::Pooled => Ok(()), // they would be somebody else's
                        }
                    })
                })
                .connect_lazy_with(options.clone())
        };
        Self {
            pool: pool(connections_max),
            heartbeats: pool(1),
            runtime: Handle::current(),
            replica: replica.into(),
            pool_mode,
        }
    }

    /// The replica's name.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Runs a call to its end in a task of its own, so that a client which goes away cannot cancel it half-way.
    pub fn detached<T, F>(&self, call: F) -> impl Future<Output = Result<T, StoreError>> + use<T, F>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        // At once: a handler that held the call would be larger by it for every request.
        let task = self.runtime.spawn(bounded(call));
        async move { task.await.map_err(|_| StoreError::Unavailable)? }
    }

    /// Says how many connections there are.
    pub fn measure(&self) {
        let meters = meters();
        for (name, pool) in [("main", &self.pool), ("heartbeats", &self.heartbeats)] {
            meters.connections.set(name, f64::from(pool.size()));
            meters.connections_idle.set(name, number(pool.num_idle()));
            meters.connections_max.set(name, f64::from(pool.options().get_max_connections()));
        }
    }

    async fn connection(&self) -> Result<Checkout, StoreError> {
        Checkout::of(&self.pool, "main", self.pool_mode).await
    }

    async fn heartbeat_connection(&self) -> Result<Checkout, StoreError> {
        Checkout::of(&self.heartbeats, "heartbeats", self.pool_mode).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
        self.heartbeats.close().await;
    }
}

/// Ends a call that takes longer than [`CALL_MAX`]. Its outcome is then unknown.
pub async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or(Err(StoreError::OutcomeUnknown))
}

/// A pooled connection in use. Goes back to the pool by [`Checkout::done`] only; dropped otherwise, it is closed.
struct Checkout {
    connection: Option<PoolConnection<Postgres>>,
    pool_mode: PoolMode,
}

impl Checkout {
    async fn of(pool: &PgPool, name: &'static str, pool_mode: PoolMode) -> Result<Self, StoreError> {
        let mut lease = Self { connection: Some(acquire(pool, name).await?), pool_mode };
        if pool_mode == PoolMode::Pooled {
            let begin = AssertSqlSafe(format!("begin; {}", settings("local")));
            lease.connection().execute(begin).await?;
        }
        Ok(lease)
    }

    fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("present until done or dropped")
    }

    /// A statement that gives rows.
    fn ask<T: for<'r> FromRow<'r, PgRow>>(
        &self,
        statement: &'static str,
    ) -> QueryAs<'static, Postgres, T, PgArguments> {
        sqlx::query_as(statement).persistent(self.pool_mode == PoolMode::Direct)
    }

    /// A statement that gives nothing.
    fn tell(&self, statement: &'static str) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(statement).persistent(self.pool_mode == PoolMode::Direct)
    }

    /// After this what was done is durable.
    async fn done(mut self) -> Result<(), StoreError> {
        if self.pool_mode == PoolMode::Pooled {
            self.connection().execute("commit").await?;
        }
        drop(self.connection.take());
        Ok(())
    }
}

async fn acquire(pool: &PgPool, name: &'static str) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    let started = Instant::now();
    let result = pool.acquire().await;
    match &result {
        Ok(_) => {
            if let Some(duration) = meters().acquire_duration.of(name) {
                duration.record(started.elapsed());
            }
        }
        Err(sqlx::Error::PoolTimedOut) => meters().acquire_timeouts.count(name, 1),
        Err(_) => {} // whoever called counts it
    }
    result
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
