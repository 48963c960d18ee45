//! What everything runs on: a private Postgres with fsync on, a fresh database per figure, replicas of headcount.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use headcount::auth::{Claims, Rights, TokenKey};
use headcount::domain::id::UserId;
use headcount::store::embedded::{Durability, EmbeddedOptions, EmbeddedPostgres};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::process::{Launch, OTHER_CORE, Process, SERVER_CORE, cpu_of_family, pin_process, pin_this_thread};

/// Signs tokens, and is the server key. No comma: that would be two keys.
pub const SECRET: &str = "a secret of the benches that is long enough";

/// The server key. One key for two purposes is refused.
pub const SERVER_KEY: &str = "a server key of the benches that is long enough";

/// Postgres, and how long things run.
pub struct Stage {
    pub postgres: EmbeddedPostgres,
    pub data: tempfile::TempDir,
    /// For trying the harness itself: seconds instead of minutes, and figures that mean little.
    pub quick: bool,
}

/// A database of its own, migrated.
pub struct Database {
    pub name: String,
    pub options: PgConnectOptions,
    pub url: String,
    postmaster: u32,
    logs: PathBuf,
}

/// A running `headcount serve`.
pub struct Replica {
    pub process: Process,
    pub address: SocketAddr,
}

/// How a replica is run.
#[derive(Clone, Copy, Default)]
pub struct Setup {
    /// On the server core, and one worker, or wherever the kernel likes.
    pub pinned: bool,
    /// On this port; 0 picks a free one.
    pub port: u16,
    /// Sessions that nobody beats for must outlive the figure.
    pub long_leases: bool,
}

impl Stage {
    pub async fn set(quick: bool) -> Self {
        let data = tempfile::Builder::new().prefix("hcb-").tempdir().expect("a temporary folder");
        let data_dir = data.path().join("data");
        let options = EmbeddedOptions { data_dir, durability: Durability::Full, max_connections: 200 };
        let postgres = EmbeddedPostgres::start(options).await.expect("a private Postgres starts");
        Self { postgres, data, quick }
    }

    /// The first of the two, or in a quick run the second.
    pub fn either<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// A fresh database with the schema, which does not look as if there had been an outage.
    pub async fn database(&self, purpose: &str) -> Database {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("{purpose}_{}", MADE.fetch_add(1, Ordering::Relaxed));
        self.postgres.ensure_database(&name).await.expect("a database can be made");
        let options = self.postgres.connect_options(&name);
        headcount::store::migrate(&options).await.expect("the migrations run");
        let url = self.postgres.database_url(&name);
        let logs = self.data.path().to_owned();
        let database = Database { name, options, url, postmaster: self.postgres.postmaster_pid(), logs };
        database
            .execute("update headcount.sweep_state set last_sweep_at = now(), leases_from = '-infinity', recovering = false")
            .await;
        database
    }

    /// One server core: the server has one, and Postgres and this thread have the other, until the guard goes.
    pub fn one_server_core(&self) -> OneServerCore {
        let postmaster = self.postgres.postmaster_pid();
        pin_process(postmaster, Some(OTHER_CORE));
        pin_this_thread(Some(OTHER_CORE));
        OneServerCore { postmaster }
    }

    pub async fn clear(self) {
        let _ = self.postgres.stop().await;
    }
}

/// While this lives, only the server that is measured runs on its core.
pub struct OneServerCore {
    postmaster: u32,
}

impl Drop for OneServerCore {
    fn drop(&mut self) {
        pin_process(self.postmaster, None);
        pin_this_thread(None);
    }
}

impl Database {
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.expect("Postgres takes connections")
    }

    pub async fn execute(&self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        self.connect()
            .await
            .execute(sqlx::raw_sql(statements))
            .await
            .expect("Postgres does what a superuser says");
    }

    /// The number that a query gives.
    pub async fn number(&self, query: &str) -> f64 {
        let query = AssertSqlSafe(format!("select ({query})::float8"));
        sqlx::query_scalar(query).fetch_one(&mut self.connect().await).await.expect("Postgres answers")
    }

    /// Waits until a query gives at least this, up to 20 s: statistics come late.
    pub async fn until_at_least(&self, query: &str, least: f64) -> f64 {
        let begin = Instant::now();
        loop {
            let number = self.number(query).await;
            if number >= least || begin.elapsed() > Duration::from_secs(20) {
                return number;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Members `first` to `last` of a room, each with a session whose id is made from room and number, by the rules.
    pub async fn populate(&self, room: &str, first: u64, last: u64) {
        let mut from = first;
        while from <= last {
            let to = last.min(from + 499);
            self.execute(&format!(
                "select count(*) from headcount.apply((
                     select jsonb_agg(jsonb_build_object(
                         'ord', n, 'op', 'join', 'room_id', '{room}', 'user_id', 'mk~' || lpad(n::text, 8, '0'),
                         'session_id', md5('{room}' || n)::uuid, 'name', 'Somebody', 'lease', '1 h', 'lease_hidden', '1 h'
                     )) from generate_series({from}, {to}) n
                 ))"
            ))
            .await;
            from = to + 1;
        }
    }

    /// Bytes of write-ahead log so far.
    pub async fn wal(&self) -> f64 {
        self.number("pg_current_wal_insert_lsn() - '0/0'").await
    }

    /// Time on a core of Postgres and its backends so far.
    pub fn cpu(&self) -> Duration {
        cpu_of_family(self.postmaster)
    }

    pub fn replica(&self, setup: Setup) -> Replica {
        let mut launch = Launch::new(env!("CARGO_BIN_EXE_headcount"), setup.pinned.then_some(SERVER_CORE))
            .args(["serve", "--listen", &format!("127.0.0.1:{}", setup.port), "--log", "error"])
            .args(["--writes-per-user", "0", "--heartbeats-per-user", "0", "--streams-per-user", "0"])
            .args(["--writes-per-session", "0", "--heartbeats-per-session", "0"])
            .args(["--events-per-user", "0", "--reads-per-user", "0"])
            .args(["--max-stream-age", "24h"])
            .log(&self.logs.join(format!("{}.log", self.name)))
            .env("DATABASE_URL", &self.url)
            .env("HEADCOUNT_JWT_SECRET", SECRET)
            .env("HEADCOUNT_SERVER_KEY", SERVER_KEY);
        if setup.pinned {
            launch = launch.args(["--workers", "1"]);
        }
        if setup.long_leases {
            launch = launch.args(["--lease", "1h", "--hidden-lease", "1h"]);
        }
        let (process, address) = launch.until_says("headcount ready on http://");
        Replica { process, address: address.parse().expect("it says where it listens") }
    }
}

/// A token of a user, good for everything.
pub fn token(user: &str) -> String {
    let sub = UserId::parse(user).expect("a user of the benches");
    let name = Some("Somebody".to_owned());
    let claims = Claims { name, rooms: Rights::everywhere(), ..Claims::new(sub, 4_000_000_000) };
    TokenKey::new(SECRET.to_owned().into()).mint(&claims)
}

/// Where the programs of the peers are.
pub fn peers_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

/// A port that was free a moment ago, for servers that cannot pick one.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
