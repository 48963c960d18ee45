//! The settings of a replica. Every flag has a `HEADCOUNT_...` variable; a bad value names itself.

pub mod limits;
pub mod origins;
pub(crate) mod secrets;
pub mod tokens;
pub mod traces;
pub mod webhooks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use crate::auth::{Grant, Rights};
use crate::commands::Timing;
use crate::domain::lease;

use secrets::{apart, in_file, strong};

pub use limits::LimitSettings;
pub use origins::Origins;
pub use tokens::TokenKeys;
pub use traces::TraceSettings;
pub use webhooks::WebhookSettings;

/// `headcount dev`
#[derive(Args, Debug)]
pub struct Dev {
    /// Address to serve on; port 0 picks a free one
    #[arg(long, env = "HEADCOUNT_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where the private Postgres keeps its data
    #[arg(long, env = "HEADCOUNT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Secret that signs tokens; made and printed when not given
    #[arg(long, env = "HEADCOUNT_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<SecretString>,
    /// File that holds HEADCOUNT_JWT_SECRET instead
    #[arg(long, env = "HEADCOUNT_JWT_SECRET_FILE", value_parser = in_file, conflicts_with = "jwt_secret", value_name = "FILE")]
    pub jwt_secret_file: Option<SecretString>,
    /// Key of application servers; made and printed when not given
    #[arg(long, env = "HEADCOUNT_SERVER_KEY", hide_env_values = true)]
    pub server_key: Option<SecretString>,
    /// File that holds HEADCOUNT_SERVER_KEY instead
    #[arg(long, env = "HEADCOUNT_SERVER_KEY_FILE", value_parser = in_file, conflicts_with = "server_key", value_name = "FILE")]
    pub server_key_file: Option<SecretString>,
    /// Rooms that a token without the claim `rooms` may watch and join: keys, or beginnings with `*`, by commas
    #[arg(long, env = "HEADCOUNT_ROOMS_DEFAULT", default_value = "*", value_parser = rights)]
    pub rooms_default: Rights,
    /// Everything else
    #[command(flatten)]
    pub tuning: Tuning,
}

/// `headcount serve`
#[derive(Args, Debug)]
pub struct Serve {
    /// Address to serve on; port 0 picks a free one
    #[arg(long, env = "HEADCOUNT_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Which database
    #[command(flatten)]
    pub database: Database,
    /// How to listen to it
    #[command(flatten)]
    pub listening: Listening,
    /// What checks tokens
    #[command(flatten)]
    pub token_keys: TokenKeys,
    /// Key of application servers, at least 32 bytes; several separated by commas while one replaces another; required,
    /// if HEADCOUNT_SERVER_KEY_FILE is not set
    #[arg(
        long,
        env = "HEADCOUNT_SERVER_KEY",
        hide_env_values = true,
        required_unless_present = "server_key_file"
    )]
    pub server_key: Option<SecretString>,
    /// File that holds HEADCOUNT_SERVER_KEY instead
    #[arg(long, env = "HEADCOUNT_SERVER_KEY_FILE", value_parser = in_file, conflicts_with = "server_key", value_name = "FILE")]
    pub server_key_file: Option<SecretString>,
    /// Rooms that a token without the claim `rooms` may watch and join: keys, or beginnings with `*`, by commas; none
    /// when empty
    #[arg(long, env = "HEADCOUNT_ROOMS_DEFAULT", default_value = "", value_parser = rights)]
    pub rooms_default: Rights,
    /// What to show to clients that speak TLS
    #[command(flatten)]
    pub tls: TlsFiles,
    /// Everything else
    #[command(flatten)]
    pub tuning: Tuning,
}

/// How to listen to the database.
#[derive(Args, Debug)]
pub struct Listening {
    /// A direct connection for LISTEN, where DATABASE_URL goes through a pooler
    #[arg(long, env = "HEADCOUNT_LISTEN_DATABASE_URL", hide_env_values = true)]
    pub listen_database_url: Option<SecretString>,
    /// File that holds HEADCOUNT_LISTEN_DATABASE_URL instead
    #[arg(long, env = "HEADCOUNT_LISTEN_DATABASE_URL_FILE", value_parser = in_file, conflicts_with = "listen_database_url", value_name = "FILE")]
    pub listen_database_url_file: Option<SecretString>,
}

impl Listening {
    /// The address, from the flag, the variable or the file.
    pub fn url(&self) -> Option<&SecretString> {
        self.listen_database_url.as_ref().or(self.listen_database_url_file.as_ref())
    }
}

/// Where the certificate is.
#[derive(Args, Debug)]
pub struct TlsFiles {
    /// Certificate to show to clients, in PEM, with its chain: TLS then, with HTTP/1.1, and no plain HTTP; read again
    /// when it changes
    #[arg(long, env = "HEADCOUNT_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of that certificate, in PEM
    #[arg(long, env = "HEADCOUNT_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl TlsFiles {
    /// Certificate with its chain, and key; none where there is no TLS.
    pub fn both(&self) -> Option<(PathBuf, PathBuf)> {
        self.tls_cert.clone().zip(self.tls_key.clone())
    }
}

/// Which database.
#[derive(Args, Debug)]
pub struct Database {
    /// Postgres to use: postgres://user:password@host:port/database
    #[arg(long, env = "HEADCOUNT_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// File that holds HEADCOUNT_DATABASE_URL instead
    #[arg(long, env = "HEADCOUNT_DATABASE_URL_FILE", value_parser = in_file, conflicts_with = "database_url", value_name = "FILE")]
    pub database_url_file: Option<SecretString>,
}

/// Settings that `dev` and `serve` share. Durations read like `15s`, `500ms`.
#[derive(Args, Debug, Clone)]
pub struct Tuning {
    /// Between heartbeats of a visible session [1s to 5m]; the answers tell clients, spread by 10 %
    #[arg(long, env = "HEADCOUNT_HEARTBEAT", default_value = "15s", value_parser = duration)]
    pub heartbeat: Duration,
    /// How long a heartbeat of a visible session lasts [at least twice the heartbeat, at most 1h]
    #[arg(long, env = "HEADCOUNT_LEASE", default_value = "45s", value_parser = duration)]
    pub lease: Duration,
    /// How long a heartbeat of a hidden session lasts [at least the lease, at most 1h]; it beats every 2/5 of that
    #[arg(long, env = "HEADCOUNT_HIDDEN_LEASE", default_value = "150s", value_parser = duration)]
    pub hidden_lease: Duration,
    /// How long a leave with grace waits for a join of the same user [0s to 5m]
    #[arg(long, env = "HEADCOUNT_LEAVE_GRACE", default_value = "5s", value_parser = duration)]
    pub leave_grace: Duration,
    /// A session not active for this long is idle [1s to 24h]
    #[arg(long, env = "HEADCOUNT_IDLE_AFTER", default_value = "5m", value_parser = duration)]
    pub idle_after: Duration,
    /// Between sweeps for sessions whose lease ran out [100ms to 1m, at most the lease]
    #[arg(long, env = "HEADCOUNT_SWEEP_INTERVAL", default_value = "1s", value_parser = duration)]
    pub sweep_interval: Duration,
    /// How long the event log is kept [10m to 400d]
    #[arg(long, env = "HEADCOUNT_RETENTION", default_value = "24h", value_parser = duration)]
    pub retention: Duration,
    /// Age at which a stream is asked to come back, spread by 20 % [1s to 24h]
    #[arg(long, env = "HEADCOUNT_MAX_STREAM_AGE", default_value = "10m", value_parser = duration)]
    pub max_stream_age: Duration,
    /// Whether to LISTEN; without, changes of other replicas are found by a poll every 2 s
    #[arg(long, env = "HEADCOUNT_LISTENER", default_value = "on")]
    pub listener: Switch,
    /// How much one caller may ask for
    #[command(flatten)]
    pub limits: LimitSettings,
    /// What webhooks may do
    #[command(flatten)]
    pub webhooks: WebhookSettings,
    /// Callers that may set name and picture: the `application` alone (server key and tokens), users too where their `token` says
    /// none, or the `user`
    #[arg(long, env = "HEADCOUNT_PROFILES_BY", default_value = "token")]
    pub profiles_by: ProfilesBy,
    /// Callers that may erase a user: the `application` alone, or the `user` too
    #[arg(long, env = "HEADCOUNT_ERASURE_BY", default_value = "user")]
    pub erasure_by: ErasureBy,
    /// Address for operators: /metrics is then served there only, and what /readyz misses is told there only
    #[arg(long, env = "HEADCOUNT_OPERATOR_LISTEN")]
    pub operator_listen: Option<SocketAddr>,
    /// Origins of pages that may call, separated by commas: `https://app.example`, `https://*.preview.example`
    #[arg(long, env = "HEADCOUNT_CORS_ORIGINS", default_value = "")]
    pub cors_origins: Origins,
    /// HTTP worker threads [1 to 64]; one per core when not given
    #[arg(long, env = "HEADCOUNT_WORKERS", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: Option<u16>,
    /// Database connections, beside one for heartbeats and one to listen; readers may use half of them at once, so that they never
    /// keep writers out [2 to 100]
    #[arg(long, env = "HEADCOUNT_DATABASE_CONNECTIONS", default_value = "8", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub database_connections: u32,
    /// What to log: a level, or `target=level` pairs; requests that are not HTTP only where `actix_http` is named
    #[arg(long, env = "HEADCOUNT_LOG", default_value = "info,actix_server=warn")]
    pub log: String,
    /// How to log
    #[arg(long, env = "HEADCOUNT_LOG_FORMAT", default_value = "pretty")]
    pub log_format: LogFormat,
    /// Where traces go
    #[command(flatten)]
    pub traces: TraceSettings,
}

/// On or off.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Do.
    On,
    /// Do not.
    Off,
}

/// The callers that may set a name and picture.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfilesBy {
    /// The application, by server key and tokens.
    Application,
    /// Users too, but for what their token says.
    Token,
    /// Users too.
    User,
}

/// The callers that may erase a user.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureBy {
    /// The application, by server key.
    Application,
    /// Users themselves too.
    User,
}

/// How to log.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// A setting that cannot be used. The message names the setting.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(String);

const SECOND: Duration = Duration::from_secs(1);

impl Tuning {
    /// Checks the settings, one by one and against each other.
    pub fn check(&self) -> Result<(), SettingError> {
        let hour = 3600 * SECOND;
        self.traces.check()?;
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            return Err(SettingError(format!("HEADCOUNT_LOG: {error}")));
        }
        between("HEADCOUNT_HEARTBEAT", self.heartbeat, SECOND, 300 * SECOND)?;
        between("HEADCOUNT_LEASE", self.lease, self.heartbeat * 2, hour)?;
        between("HEADCOUNT_HIDDEN_LEASE", self.hidden_lease, self.lease, hour)?;
        between("HEADCOUNT_LEAVE_GRACE", self.leave_grace, Duration::ZERO, 300 * SECOND)?;
        between("HEADCOUNT_IDLE_AFTER", self.idle_after, SECOND, 24 * hour)?;
        let sweep_max = (60 * SECOND).min(self.lease);
        between("HEADCOUNT_SWEEP_INTERVAL", self.sweep_interval, SECOND / 10, sweep_max)?;
        between("HEADCOUNT_RETENTION", self.retention, 600 * SECOND, 400 * 24 * hour)?;
        between("HEADCOUNT_WEBHOOKS_KEEP", self.webhooks.webhooks_keep, 600 * SECOND, 400 * 24 * hour)?;
        between("HEADCOUNT_MAX_STREAM_AGE", self.max_stream_age, SECOND, 24 * hour)
    }

    /// What commands need of them. A hidden session beats every 2/5 of its lease: 60 s of 150 s.
    pub fn timing(&self) -> Timing {
        let pace = lease::Pace {
            heartbeat: self.heartbeat,
            lease: self.lease,
            heartbeat_hidden: (self.hidden_lease * 2 / 5).max(self.heartbeat),
            lease_hidden: self.hidden_lease,
        };
        Timing { pace, leave_grace: self.leave_grace, idle_after: self.idle_after }
    }
}

impl Database {
    /// The address, from the flag, `HEADCOUNT_DATABASE_URL`, its file or `DATABASE_URL`.
    pub fn url(&self) -> Result<SecretString, SettingError> {
        let plain = || std::env::var("DATABASE_URL").ok().map(SecretString::from);
        let set = |url: &SecretString| !url.expose_secret().is_empty();
        self.database_url
            .clone()
            .filter(set)
            .or_else(|| self.database_url_file.clone())
            .or_else(plain)
            .filter(set)
            .ok_or_else(|| {
                SettingError(
                    "HEADCOUNT_DATABASE_URL is not set: which Postgres? (postgres://user@host/database)"
                        .into(),
                )
            })
    }
}

impl Dev {
    /// Development keys are given to anybody who asks: only this machine may.
    pub fn check(&self) -> Result<(), SettingError> {
        if !self.listen.ip().is_loopback() {
            return Err(SettingError(format!(
                "HEADCOUNT_LISTEN is {}; dev serves on a loopback address only (use serve)",
                self.listen
            )));
        }
        self.tuning.check()
    }
}

impl Serve {
    /// The key of application servers, from its variable or its file.
    pub fn server_key(&self) -> Option<&SecretString> {
        self.server_key.as_ref().or(self.server_key_file.as_ref())
    }

    /// Checks the keys: a weak one can be guessed.
    pub fn check(&self) -> Result<(), SettingError> {
        self.token_keys.check()?;
        if let Some(keys) = self.server_key() {
            server_keys_strong(keys)?;
            apart(keys, self.token_keys.secrets())?;
        }
        self.tuning.check()
    }
}

/// Each of several.
pub(crate) fn server_keys_strong(keys: &SecretString) -> Result<(), SettingError> {
    keys.expose_secret().split(',').try_for_each(|key| strong("HEADCOUNT_SERVER_KEY", key.trim()))
}

fn between(name: &str, value: Duration, min: Duration, max: Duration) -> Result<(), SettingError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let [value, min, max] = [value, min, max].map(humantime::format_duration);
    Err(SettingError(format!("{name} is {value}; it must be between {min} and {max}")))
}

/// Patterns separated by commas, as the claim `rooms` in its short form.
pub(crate) fn rights(text: &str) -> Result<Rights, String> {
    let patterns = text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
    patterns.map(Grant::parse).collect::<Result<_, _>>().map(|grants| Rights(Some(grants)))
}

/// As `15s` or `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}
