//! The only SQL outside `migrations/`, and the connections it runs on.
//!
//! A file for each subject that is asked about: `commands`, `heartbeats`, `events`, `rosters`, and so on. What a method
//! there has of its own is the statement, the parameters, and what it makes of the rows; [`query`] does the rest. Every
//! call is one statement, so nothing of ours is ever inside an open transaction between two round trips; behind a pooler
//! in transaction mode it is one transaction, because only that long a connection there stays the same. Texts of the
//! database become values of the domain in [`decode`] or fail. Not asked through a [`Store`] are [`schema`], which
//! migrates, [`checkup`], which `headcount doctor` asks, and [`embedded`], the private Postgres.

mod checkout;
pub mod checkup;
pub mod commands;
mod decode;
pub mod deliveries;
pub mod embedded;
pub mod error;
pub mod events;
pub mod gauges;
pub mod heartbeats;
pub mod history;
pub mod listen;
pub mod overview;
mod query;
pub mod room_settings;
pub mod rooms;
pub mod rosters;
pub mod rules;
pub mod schema;
pub mod schema_version;
pub mod sweep;
pub mod trim;
pub mod users;
pub mod webhooks;

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use tokio::runtime::Handle;

pub use checkout::{CALL_MAX, PoolMode, pool_mode};
pub use error::StoreError;
pub use schema::{grant, is_away, is_forbidden, migrate, migrate_to};

use checkout::Pool;
use query::Query;

/// This replica's connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    main: Pool,
    /// Heartbeats have a connection of their own: readers and writers cannot starve them.
    heartbeats: Pool,
    runtime: Handle,
    replica: Arc<str>,
}

impl Store {
    /// Prepares connections; none is opened yet, so a database that is away is no error here. Calls run on
    /// the current Tokio runtime, whichever thread asks. By the replica's name others find its connections in
    /// `pg_stat_activity`.
    pub fn new(options: PgConnectOptions, mode: PoolMode, connections_max: u32, replica: &str) -> Self {
        let options = options.application_name(&format!("headcount {replica}"));
        Self {
            main: Pool::new("main", options.clone(), mode, connections_max),
            heartbeats: Pool::new("heartbeats", options, mode, 1),
            runtime: Handle::current(),
            replica: replica.into(),
        }
    }

    /// The replica's name.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Runs a call to its end in a task of its own, so that a client which goes away cannot cancel it half-way.
    pub fn detached<T, F, C>(&self, call: C) -> impl Future<Output = Result<T, StoreError>> + use<T, F, C>
    where
        C: FnOnce(Self) -> F,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        // At once: a handler that held the call would be larger by it for every request.
        let task = self.runtime.spawn(bounded(call(self.clone())));
        async move { task.await.map_err(|_| StoreError::Unavailable)? }
    }

    /// A statement for a connection that everything but heartbeats shares.
    fn query(&self, statement: &'static str) -> Query<'_> {
        Query::new(&self.main, statement)
    }

    /// A statement for the connection of heartbeats.
    fn heartbeat_query(&self, statement: &'static str) -> Query<'_> {
        Query::new(&self.heartbeats, statement)
    }

    /// Says how many connections there are.
    pub fn measure(&self) {
        self.main.measure();
        self.heartbeats.measure();
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.main.close().await;
        self.heartbeats.close().await;
    }
}

/// Ends a call that takes longer than [`CALL_MAX`]. Its outcome is then unknown.
pub async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or(Err(StoreError::OutcomeUnknown))
}
