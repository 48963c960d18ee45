//! What the tests stand on: a database of its own for each of them, and the laws of the log.
//!
//! `HEADCOUNT_TEST_POSTGRES_URL` names a throw-away server by the URL of its `postgres` database (the example
//! `with_postgres` sets it). Without it a private server is started for this test binary. Every database is a copy
//! of one that was migrated once per server, and is dropped with its [`TestDatabase`].

#![allow(dead_code, reason = "every test binary uses a part of this")]

pub mod law;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process, thread};

use headcount::store::embedded::{Durability, EmbeddedOptions, EmbeddedPostgres};
use headcount::store::rules::Rules;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

/// Any number: those who make the template queue here.
const TEMPLATE_LOCK: i64 = 0x6865_6164;

/// Whom replicas connect as: a role that may serve and nothing else. So the whole suite shows that this is enough.
pub const SERVICE_ROLE: &str = "headcount_service";

/// Nobody asks for it here; it must be in no log all the same.
pub const SERVICE_PASSWORD: &str = "database-password-of-the-tests";

/// A migrated, empty database. Dropped with this value, whoever is still connected.
#[derive(Debug)]
pub struct TestDatabase {
    /// How to connect to it, as a superuser.
    pub options: PgConnectOptions,
    /// How replicas do.
    pub service: PgConnectOptions,
    name: String,
    server: PgConnectOptions,
}

/// Makes a database for one test.
pub async fn database() -> TestDatabase {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let server = server();
    let template = template(&server).await;
    let name = format!("headcount_test_{}_{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    // One that a killed run left: process ids come again.
    execute(&server, format!("drop database if exists {name} with (force)")).await;
    execute(&server, format!("create database {name} template {template}")).await;
    let options = server.clone().database(&name);
    let service = options.clone().username(SERVICE_ROLE).password(SERVICE_PASSWORD);
    TestDatabase { options, service, name, server }
}

impl TestDatabase {
    /// A new connection.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.expect("the test database takes connections")
    }

    /// Admits connections, or none from now on; then those that are open end, as when a server goes away.
    pub async fn admit(&self, connections: bool) {
        let (name, server) = (&self.name, &self.server);
        execute(server, format!("alter database {name} with allow_connections {connections}")).await;
        if !connections {
            let open =
                format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
            execute(server, open).await;
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread of its own, because a runtime cannot be entered from within one.
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(execute(&server, format!("drop database if exists {name} with (force)")));
        });
        // Failing is fine: the server is thrown away soon, and may be what the test has stopped.
        let _ = dropping.join();
    }
}

async fn execute(server: &PgConnectOptions, statement: String) {
    let mut connection = PgConnection::connect_with(server).await.expect("the test server takes connections");
    connection.execute(AssertSqlSafe(statement)).await.expect("the test server does what a superuser says");
    connection.close().await.expect("the test server answers");
}

/// The name of the migrated database, made by whoever comes first. It is made under another name, so that one
/// half made by a killed run is never used.
async fn template(server: &PgConnectOptions) -> String {
    let name = format!("headcount_template_{:08x}", fingerprint());
    let mut connection = PgConnection::connect_with(server).await.expect("the test server takes connections");
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut connection).await.unwrap();
    let made: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    if !made {
        let building = format!("{name}_building");
        execute(server, format!("drop database if exists {building} with (force)")).await;
        execute(server, format!("create database {building}")).await;
        let database = server.clone().database(&building);
        headcount::store::migrate(&database).await.expect("the migrations run");
        create_service_role(&mut connection).await;
        headcount::store::grant(&database, SERVICE_ROLE).await.expect("the owner may grant");
        execute(server, format!("alter database {building} rename to {name}")).await;
    }
    connection.close().await.unwrap();
    name
}

/// Roles are a server's: another template of this server may have made it.
async fn create_service_role(connection: &mut PgConnection) {
    let there = "select exists (select from pg_roles where rolname = $1)";
    let there: Result<bool, _> =
        sqlx::query_scalar(there).bind(SERVICE_ROLE).fetch_one(&mut *connection).await;
    if !there.expect("the test server answers") {
        let create = format!("create role {SERVICE_ROLE} login password '{SERVICE_PASSWORD}'");
        connection.execute(AssertSqlSafe(create)).await.expect("a superuser makes roles");
    }
}

/// Of migrations and rules, by FNV-1a: another text is another template.
fn fingerprint() -> u32 {
    let migrator = sqlx::migrate!();
    let rules = Rules::of_this_build();
    let loaded = format!("{} {}", rules.revision, rules.checksum());
    let bytes = migrator.migrations.iter().flat_map(|migration| migration.checksum.iter());
    bytes
        .chain(loaded.as_bytes())
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn server() -> PgConnectOptions {
    match env::var("HEADCOUNT_TEST_POSTGRES_URL") {
        Ok(url) => url.parse().expect("HEADCOUNT_TEST_POSTGRES_URL is the URL of a Postgres database"),
        Err(_) => private_server(),
    }
}

/// One for the whole process. The thread that started it stays, because Postgres ends with it.
fn private_server() -> PgConnectOptions {
    static SERVER: OnceLock<PgConnectOptions> = OnceLock::new();
    let start = || {
        let (started, options) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let binary = env::current_exe().expect("a running program has a path");
                let place = binary.file_stem().expect("a program has a name").to_owned();
                let data_dir = env::temp_dir().join("headcount-tests").join(place);
                let options = EmbeddedOptions { data_dir, durability: Durability::Off, max_connections: 100 };
                let server = EmbeddedPostgres::start(options).await.expect("a private Postgres starts");
                started.send(server.connect_options("postgres")).expect("somebody waits for it");
                std::future::pending::<()>().await;
            });
        });
        options.recv().expect("a private Postgres starts")
    };
    SERVER.get_or_init(start).clone()
}
