//! The Postgres of a run: ours, so that it can be killed, hung and started again by its process id.
//!
//! Whatever becomes of a run, a Postgres that was stopped by SIGSTOP goes on, so that it can be told to end.

use std::path::PathBuf;
use std::time::Duration;

use headcount::store::embedded::{Durability, EmbeddedOptions, EmbeddedPostgres};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::bare_postgres::BarePostgres;
use crate::wait::until_so;

#[path = "../support/law.rs"]
mod law;

/// What replicas connect to.
pub const DATABASE: &str = "headcount";

/// A private Postgres and its directory.
pub struct Database {
    postgres: Option<EmbeddedPostgres>,
    /// What took its place.
    raw: Option<BarePostgres>,
    options: EmbeddedOptions,
    _dir: Option<TempDir>,
}

impl Database {
    /// In a directory of its own, with the schema.
    pub async fn start(durability: Durability, max_connections: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("hcf-").tempdir().unwrap();
        let data_dir = dir.path().to_owned();
        Self::start_in(data_dir, Some(dir), durability, max_connections).await
    }

    /// In a directory of the scenario's.
    pub async fn start_in(
        data_dir: PathBuf,
        dir: Option<TempDir>,
        durability: Durability,
        max_connections: u16,
    ) -> Self {
        let options = EmbeddedOptions { data_dir, durability, max_connections };
        let postgres = EmbeddedPostgres::start(options.clone()).await.expect("a private Postgres starts");
        postgres.ensure_database(DATABASE).await.unwrap();
        headcount::store::migrate(&postgres.connect_options(DATABASE)).await.unwrap();
        let database = Self { postgres: Some(postgres), raw: None, options, _dir: dir };
        // A fresh database looks as if there had been an outage; these runs begin long after it.
        database
            .execute("update headcount.sweep_state set last_sweep_at = now(), leases_from = '-infinity', recovering = false")
            .await;
        database
    }

    fn running(&self) -> &EmbeddedPostgres {
        self.postgres.as_ref().expect("Postgres runs")
    }

    /// Directly, past all proxies.
    pub fn connect_options(&self) -> PgConnectOptions {
        if let Some(raw) = &self.raw {
            return raw.connect_options(DATABASE);
        }
        self.running().connect_options(DATABASE)
    }

    /// The socket behind which it is, as long as it runs.
    pub fn socket(&self) -> PathBuf {
        self.connect_options().get_socket().expect("a private Postgres has a socket").join(".s.PGSQL.5432")
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.connect_options()).await.expect("Postgres takes connections")
    }

    /// Waits until it takes connections.
    pub async fn until_serving(&self) {
        until_serving(&self.connect_options()).await;
    }

    pub async fn execute(&self, statement: &str) {
        let mut connection = self.connect().await;
        connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    }

    /// The number that a query gives.
    pub async fn number(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut self.connect().await)
            .await
            .unwrap()
    }

    /// Polls until the number that a query gives is as wished.
    pub async fn until(&self, fact: &str, within: Duration, query: &str, so: impl Fn(i64) -> bool) {
        until_so(fact, within, async || so(self.number(query).await)).await;
    }

    /// Panics unless the laws of the log hold.
    pub async fn lawful(&self) {
        law::assert_lawful(&mut self.connect().await).await;
    }

    /// Stops it as an administrator would.
    pub async fn stop(&mut self) {
        self.postgres.take().expect("Postgres runs").stop().await.unwrap();
    }

    /// Kills the postmaster. Its backends notice and end by themselves.
    pub async fn kill(&mut self) {
        let mut postgres = self.postgres.take().expect("Postgres runs");
        signal(postgres.postmaster_pid(), Signal::KILL);
        postgres.exited().await;
    }

    /// Starts it again where it was.
    pub async fn start_again(&mut self) {
        assert!(self.postgres.is_none(), "it has been stopped before");
        self.postgres =
            Some(EmbeddedPostgres::start(self.options.clone()).await.expect("Postgres starts again"));
    }

    /// The cluster's files.
    pub fn cluster(&self) -> PathBuf {
        self.options.data_dir.join("cluster")
    }

    /// Another Postgres takes its place; the one before must have ended.
    pub fn replace(&mut self, raw: BarePostgres) {
        assert!(self.postgres.is_none(), "two Postgres on one cluster");
        self.raw = Some(raw);
    }

    /// Starts it again if it ended by itself.
    pub async fn revive(&mut self) {
        let postgres = self.postgres.as_mut().expect("it was started");
        if tokio::time::timeout(Duration::from_millis(100), postgres.exited()).await.is_ok() {
            self.postgres = None;
            self.start_again().await;
        }
    }

    /// Stops all its processes until the answer is dropped: connections stay open, nobody answers.
    pub fn hang(&self) -> Hang {
        let postmaster = self.running().postmaster_pid();
        signal(postmaster, Signal::STOP); // first, so that no process is added
        let mut stopped = children(postmaster);
        stopped.push(postmaster);
        stopped.iter().for_each(|pid| signal(*pid, Signal::STOP));
        Hang(stopped)
    }

    /// Kills one backend that serves this application.
    pub async fn kill_backend(&self, application: &str) {
        let query = "select pid from pg_stat_activity where split_part(application_name, ' ', 1) = $1 and datname = current_database() limit 1";
        let pid: Option<i32> = sqlx::query_scalar(query)
            .bind(application)
            .fetch_optional(&mut self.connect().await)
            .await
            .unwrap();
        let pid = pid.expect("the application is connected");
        signal(u32::try_from(pid).unwrap(), Signal::KILL);
    }
}

/// Waits until a Postgres takes connections.
pub async fn until_serving(options: &PgConnectOptions) {
    let serves = async || PgConnection::connect_with(options).await.is_ok();
    until_so("Postgres takes connections", Duration::from_secs(60), serves).await;
}

/// Processes that are stopped. They go on when this is dropped.
pub struct Hang(Vec<u32>);

impl Drop for Hang {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, Signal::CONT));
    }
}

/// To a process that we started, or a child of one.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, signal); // it may have ended by itself
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Bytes.
    pub resident: u64,
    pub descriptors: u64,
}

pub fn resources(pid: u32) -> Resources {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Resources { resident: kib * 1024, descriptors: descriptors.try_into().unwrap() }
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}
