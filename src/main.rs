//! The command line: parses it and runs the command.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command line: it talks to people"
)]

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use headcount::app::{Parts, Replica};
use headcount::auth::{Keys, Rights, TokenKey, Verifier};
use headcount::cli::grammar::{Cli, Invocation};
use headcount::cli::migrate::{MADE_ELSEWHERE, mend};
use headcount::http::server::tls::Certificate;
use headcount::settings::{Dev, Serve};
use headcount::store::PoolMode;
use headcount::store::embedded::{Durability, EmbeddedError, EmbeddedOptions, EmbeddedPostgres};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type BoxError = Box<dyn std::error::Error>;

// Under `#[tokio::main]` this runs on the main thread, which lives as long as the process. The private Postgres needs
// that: the kernel stops it when the thread that started it ends.
#[tokio::main]
async fn main() -> ExitCode {
    // A connection uses only a part of its buffers, but a huge page is resident as a whole: with 10,000 watchers that
    // is 22 KiB for each, and 13 KiB without huge pages. A failure costs only memory, so it is ignored.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let result = match Cli::read().command {
        Invocation::Dev(dev) => run_dev(*dev).await,
        Invocation::Serve(serve) => run_serve(*serve).await,
        Invocation::Verb(verb) => return headcount::cli::run(verb).await,
    };
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("headcount: {failure}");
    let missing = matches!(
        failure.downcast_ref(),
        Some(EmbeddedError::BinariesMissing | EmbeddedError::BinariesNotThere { .. })
    );
    ExitCode::from(if missing { 2 } else { 1 })
}

async fn run_dev(dev: Dev) -> Result<(), BoxError> {
    dev.check()?;
    let logs = headcount::logs::start(&dev.tuning)?;
    let data_dir = dev.data_dir.clone().unwrap_or_else(default_data_dir);
    let socket = bind(dev.listen)?;
    let options =
        EmbeddedOptions { data_dir: data_dir.clone(), durability: Durability::Full, max_connections: 100 };
    let mut postgres = EmbeddedPostgres::start(options).await?;
    postgres.ensure_database("headcount").await?;
    let database = postgres.connect_options("headcount");
    let made_elsewhere = format!("throw that data away: rm -r {}", data_dir.display());
    headcount::store::migrate(&database).await.map_err(|error| mend(&error, &made_elsewhere))?;
    let jwt_secret = dev.jwt_secret.clone().or(dev.jwt_secret_file.clone()).unwrap_or_else(random_key);
    let server_key = dev.server_key.clone().or(dev.server_key_file.clone()).unwrap_or_else(random_key);
    let keys = Keys::new(&server_keys(&server_key), jwt_secret.clone().into(), dev.rooms_default.clone());
    let (tuning, mint) = (dev.tuning.clone(), Some(TokenKey::new(jwt_secret.clone())));
    let mut replica = Replica::start(Parts {
        socket,
        database,
        pool_mode: PoolMode::Direct,
        listen_database: None,
        keys,
        certificate: None,
        tuning,
        mint,
    })?;
    replica.started().await?;
    greet(&replica, &jwt_secret, &server_key, &dev);
    println!("database   psql '{}'", postgres.database_url("headcount"));
    println!("headcount ready on http://{}", replica.address());
    let stopped = tokio::select! {
        () = stop() => Ok(()),
        ended = postgres.exited() => Err(ended.into()),
        ended = replica.ended() => Err(ended.into()),
    };
    replica.stop().await;
    postgres.stop().await?;
    logs.stop().await;
    stopped
}

async fn run_serve(serve: Serve) -> Result<(), BoxError> {
    serve.check()?;
    let logs = headcount::logs::start(&serve.tuning)?;
    let certificate = serve.tls.both().map(|(chain, key)| Certificate::open(chain, key)).transpose();
    let certificate =
        certificate.map_err(|error| format!("HEADCOUNT_TLS_CERT, HEADCOUNT_TLS_KEY: {error}"))?;
    let database = postgres("HEADCOUNT_DATABASE_URL", &serve.database.url()?)?;
    let direct = serve.listening.url();
    let direct = direct.map(|url| postgres("HEADCOUNT_LISTEN_DATABASE_URL", url)).transpose()?;
    let mut signals = Signals::listen();
    let pool_mode = tokio::select! {
        migrated = migrate_patiently(&database, direct.as_ref()) => migrated?,
        () = signals.stop() => return Ok(()),
    };
    let socket = match headcount::systemd::socket()? {
        Some(handed) => handed,
        None => bind(serve.listen)?,
    };
    let keys = Keys::new(
        &serve.server_key().map(server_keys).unwrap_or_default(),
        Verifier::new(serve.token_keys.sources())?,
        serve.rooms_default.clone(),
    );
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let tuning = serve.tuning;
    let parts =
        Parts { socket, database, pool_mode, listen_database: direct, keys, certificate, tuning, mint: None };
    let mut replica = Replica::start(parts)?;
    replica.started().await?;
    println!("headcount ready on {scheme}://{}", replica.address());
    headcount::systemd::ready();
    let stopped = signals.stop_or_reload(&mut replica).await;
    headcount::systemd::stopping();
    replica.stop().await;
    logs.stop().await;
    Ok(stopped?)
}

/// The address is not repeated: it holds a password.
fn postgres(setting: &str, url: &SecretString) -> Result<PgConnectOptions, BoxError> {
    url.expose_secret().parse().map_err(|error| format!("{setting}: {error}").into())
}

const POOLED: &str = "HEADCOUNT_DATABASE_URL leads to a pooler in transaction mode (PgBouncer?), through which nobody can \
     listen: set HEADCOUNT_LISTEN_DATABASE_URL to a direct connection";

const FORBIDDEN: &str = "the schema is not up to date, and this role may not change it; run `headcount migrate \
     --grant-to ROLE` as its owner first";

/// Migrates. Retries every second while the database is down; a refusal is an error. Returns the mode of its pools.
async fn migrate_patiently(
    database: &PgConnectOptions,
    direct: Option<&PgConnectOptions>,
) -> Result<PoolMode, BoxError> {
    loop {
        let pool_mode = headcount::store::pool_mode(database).await;
        let wanted = match (pool_mode, direct) {
            (Some(PoolMode::Pooled), None) => return Err(POOLED.into()),
            (Some(PoolMode::Pooled), Some(direct)) => direct, // migrations need a session
            _ => database,
        };
        match (headcount::store::migrate(wanted).await, pool_mode) {
            (Ok(()), Some(pool_mode)) => return Ok(pool_mode),
            (Ok(()), None) => {} // the database came back between the two calls
            (Err(error), _) if headcount::store::is_away(&error) => {
                tracing::warn!(%error, "the database is away; waiting for it");
                headcount::systemd::waiting("the database is away; waiting for it");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            (Err(error), _) if headcount::store::is_forbidden(&error) => return Err(FORBIDDEN.into()),
            (Err(error), _) => return Err(mend(&error, MADE_ELSEWHERE).into()),
        }
    }
}

fn server_keys(setting: &SecretString) -> Vec<SecretString> {
    setting.expose_secret().split(',').map(|key| key.trim().into()).collect()
}

fn random_key() -> SecretString {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()).into()
}

/// A directory that, if this runs as root, the unprivileged user as which Postgres runs can reach.
fn default_data_dir() -> std::path::PathBuf {
    let home = std::env::var_os("HOME").filter(|_| !rustix::process::geteuid().is_root());
    match home {
        Some(home) => std::path::Path::new(&home).join(".local/share/headcount"),
        None => "/var/tmp/headcount-dev".into(),
    }
}

fn greet(replica: &Replica, jwt_secret: &SecretString, server_key: &SecretString, dev: &Dev) {
    let url = format!("http://{}", replica.address());
    if dev.jwt_secret.is_none() && dev.jwt_secret_file.is_none() {
        println!("HEADCOUNT_JWT_SECRET={}", jwt_secret.expose_secret());
    }
    if dev.server_key.is_none() && dev.server_key_file.is_none() {
        println!("HEADCOUNT_SERVER_KEY={}", server_key.expose_secret());
    }
    if dev.rooms_default == Rights::everywhere() {
        println!("rooms      a token without the claim `rooms` may watch and join all (with serve: none)");
    }
    println!("demo page  {url}/");
    println!("operators  {url}/admin");
    println!("API docs   {url}/docs/");
    println!("try        {}", try_line(&url));
}

/// A shell command to paste, which gets a token and watches the lobby.
fn try_line(url: &str) -> String {
    format!(
        "curl -sN -H \"Authorization: Bearer $(curl -s {url}/dev/token -H 'content-type: application/json' \
         -d '{{\"user\":\"me\"}}' | cut -d'\"' -f4)\" {url}/v1/rooms/lobby/events"
    )
}

/// Called before anything else starts, so that an address in use is found immediately.
fn bind(listen: SocketAddr) -> Result<TcpListener, BoxError> {
    TcpListener::bind(listen).map_err(|error| format!("HEADCOUNT_LISTEN {listen}: {error}").into())
}

/// Waits for SIGTERM or SIGINT. SIGHUP, when the terminal closes, is not handled, so it ends `dev` like any program.
async fn stop() {
    let heard = |kind| signal(kind).expect("a signal handler can be installed");
    let (mut terminate, mut interrupt) = (heard(SignalKind::terminate()), heard(SignalKind::interrupt()));
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
}

/// The signals of `serve`. Handlers are installed when this is made, so that no signal is lost in the race between two
/// waits.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Self {
        let heard = |kind| signal(kind).expect("a signal handler can be installed");
        Self {
            terminate: heard(SignalKind::terminate()),
            interrupt: heard(SignalKind::interrupt()),
            hangup: heard(SignalKind::hangup()),
        }
    }

    async fn stop(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }

    /// Waits for SIGTERM or SIGINT. On each SIGHUP the replica reads keys and certificate again. An error if the replica
    /// cannot go on.
    async fn stop_or_reload(&mut self, replica: &mut Replica) -> std::io::Result<()> {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => replica.reload().await,
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                error = replica.ended() => return Err(error),
            }
        }
    }
}
