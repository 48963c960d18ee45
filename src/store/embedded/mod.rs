//! A private Postgres for `headcount dev` and for the tests. It is reached over a Unix socket that only its user (and
//! root) can open, and is stopped when headcount stops or dies.
//!
//! It never listens on a network and never runs as root. It never adopts a Postgres that it did not start. Waits are
//! bounded: 10 s for the previous user of the directory, 60 s to become ready, 18 s to stop.
//!
//! Notes for callers:
//!
//! - Start it from the main thread (a future under `#[tokio::main]` runs there). The kernel stops Postgres
//!   when the *thread* that started it ends, be that with the process or before it.
//! - Starting does a little blocking file I/O. Call it before requests are served.

mod account;
mod binaries;
mod cluster;
mod error;
mod home;
mod launch;
mod lock_file;
mod options;
mod server;
mod sockets;

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::time::{Instant, sleep};

pub use self::error::{EmbeddedError, LogTail};
pub use self::options::{Durability, EmbeddedOptions};
use self::{account::Account, binaries::Binaries, home::Home, launch::Launcher, server::Server};

/// How long to wait for the previous user of the directory: a headcount that is draining, or the Postgres of a
/// headcount that was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A private Postgres that runs. Dropping it without [`stop`](Self::stop) signals it to stop and does not wait.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    // Dropped in this order: Postgres is signalled to stop before its directory is unlocked.
    server: Server,
    launcher: Launcher,
}

impl EmbeddedPostgres {
    /// Starts Postgres on the data directory, which is made if absent, and returns when it accepts connections.
    ///
    /// Recovers from the leftovers of a kill: a stale lock file, a half-made cluster, an orphaned Postgres. Cancelling
    /// this future stops the programs that it started.
    ///
    /// # Errors
    /// Each is a sentence for a person; see [`EmbeddedError`].
    pub async fn start(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let binaries = Binaries::find()?;
        let account = Account::choose(&options.data_dir.join(Home::CLUSTER))?;
        let patience = Instant::now() + PATIENCE;
        let home = Home::open(&options.data_dir, account, patience).await?;
        let launcher = Launcher::new(binaries, home).await?;
        launcher.make_cluster(options.durability).await?;
        let server = launch(&launcher, &options, patience).await?;
        Ok(Self { server, launcher })
    }

    /// How to connect to a database of it as the superuser, whatever `PG...` variables say.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.launcher.home.sockets.path)
            .port(5432)
            .username("postgres")
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// The same as a URL, for `psql` and for other processes. The database's name is taken as it is, so it
    /// must be one that needs no escaping.
    pub fn database_url(&self, database: &str) -> String {
        let sockets = self.launcher.home.sockets.path.display();
        format!("postgres:///{database}?host={sockets}&port=5432&user=postgres&sslmode=disable")
    }

    /// The process id of the postmaster, our child.
    pub fn postmaster_pid(&self) -> u32 {
        self.server.pid()
    }

    /// Makes a database unless it is there.
    ///
    /// # Errors
    /// [`EmbeddedError::Sql`].
    pub async fn ensure_database(&self, name: &str) -> Result<(), EmbeddedError> {
        let mut connection = PgConnection::connect_with(&self.connect_options("postgres")).await?;
        let there = "select exists (select from pg_database where datname = $1)";
        if !sqlx::query_scalar::<_, bool>(there).bind(name).fetch_one(&mut connection).await? {
            // A name cannot be a parameter. Quoted, it may hold anything.
            let quoted = name.replace('"', "\"\"");
            let create = AssertSqlSafe(format!("create database \"{quoted}\""));
            sqlx::query(create).execute(&mut connection).await?;
        }
        Ok(connection.close().await?)
    }

    /// Resolves when Postgres ends without having been asked to, with the reason as far as it is known. Safe to cancel.
    pub async fn exited(&mut self) -> EmbeddedError {
        let how = match self.server.ended().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.launcher.failed(format!("Postgres ended by itself ({how})"))
    }

    /// Stops it, first with a checkpoint (SIGINT), after 10 s without (SIGQUIT; the next start then replays
    /// the log). One that has ended already counts as stopped.
    ///
    /// # Errors
    /// [`EmbeddedError::Failed`] when it still runs after that.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        if self.server.stop().await {
            return Ok(());
        }
        Err(self.launcher.failed(format!("Postgres (process {}) does not stop", self.server.pid())))
    }
}

async fn launch(
    launcher: &Launcher,
    options: &EmbeddedOptions,
    patience: Instant,
) -> Result<Server, EmbeddedError> {
    loop {
        lock_file::clear(&launcher.home, patience).await?;
        match launcher.launch(options).await {
            Err(EmbeddedError::Locked(_)) if Instant::now() < patience => {
                sleep(Duration::from_millis(200)).await;
            }
            done => return done,
        }
    }
}
