//! The only SQL outside `migrations/`, and the connection pools it runs on.
//!
//! There is a file for each subject: `commands`, `heartbeats`, `events`, `rosters`, and so on. A method there gives the
//! statement, binds the parameters and decodes the rows; [`query`] does the rest. Every call is one statement, so no
//! transaction of ours stays open between two round trips. Behind a pooler in transaction mode a call is one explicit
//! transaction, because there a connection keeps its server session only that long. [`decode`] turns texts of the
//! database into values of the domain, or fails. Three modules do not go through a [`Store`]: [`schema`] migrates,
//! [`checkup`] runs the health checks of `headcount doctor`, and [`embedded`] is the private Postgres.

pub mod access;
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
mod readers;
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
use readers::Readers;

/// This replica's connection pools. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    main: Pool,
    /// A pool of one connection for heartbeats, so that readers and writers cannot starve them.
    heartbeats: Pool,
    /// Permits of the reads that run on the main pool.
    readers: Arc<Readers>,
    runtime: Handle,
    replica: Arc<str>,
}

impl Store {
    /// Sets up the pools. No connection is opened yet, so a database that is down is no error here. Calls run on
    /// the current Tokio runtime, whichever thread makes them. The replica's name is in the `application_name` of its
    /// connections, so that it can be found in `pg_stat_activity`.
    pub fn new(options: PgConnectOptions, mode: PoolMode, connections_max: u32, replica: &str) -> Self {
        let options = options.application_name(&format!("headcount {replica}"));
        Self {
            main: Pool::new("main", options.clone(), mode, connections_max),
            heartbeats: Pool::new("heartbeats", options, mode, 1),
            readers: Arc::new(Readers::of(connections_max)),
            runtime: Handle::current(),
            replica: replica.into(),
        }
    }

    /// The replica's name.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Runs a call to completion in a task of its own, so that a client that disconnects cannot cancel it half-way.
    pub fn detached<T, F, C>(&self, call: C) -> impl Future<Output = Result<T, StoreError>> + use<T, F, C>
    where
        C: FnOnce(Self) -> F,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        // Spawn now rather than inside the future, or every handler's future would grow by the size of `call`.
        let task = self.runtime.spawn(bounded(call(self.clone())));
        async move { task.await.map_err(|_| StoreError::Unavailable)? }
    }

    /// As [`Store::detached`], for reads of clients: they wait for a turn first, because there are fewer turns than
    /// connections.
    pub fn read<T, F, C>(&self, call: C) -> impl Future<Output = Result<T, StoreError>> + use<T, F, C>
    where
        C: FnOnce(Self) -> F + Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let readers = self.readers.clone();
        self.detached(move |store| async move {
            let _turn = readers.turn().await?;
            call(store).await
        })
    }

    /// A statement for the main pool, which everything except heartbeats shares.
    fn query(&self, statement: &'static str) -> Query<'_> {
        Query::new(&self.main, statement)
    }

    /// A statement for the heartbeat pool.
    fn heartbeat_query(&self, statement: &'static str) -> Query<'_> {
        Query::new(&self.heartbeats, statement)
    }

    /// Records the gauges of both pools.
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

/// Cancels a call that takes longer than [`CALL_MAX`]. Its outcome is then unknown.
pub async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or(Err(StoreError::OutcomeUnknown))
}
