//! Composes the parts of a replica, and defines the order in which they start and stop.

use std::io::Error;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::TaskTracker;

use crate::auth::{Keys, TokenKey};
use crate::commands::Commands;
use crate::http::request::audience::Audience;
use crate::http::request::checked::Checked;
use crate::http::request::limits::Limits;
use crate::http::routes;
use crate::http::server::connections::Connections;
use crate::http::server::tls::Certificate;
use crate::http::server::{Front, serve, serve_operators};
use crate::http::service::{Hooks, Service};
use crate::hub::Hub;
use crate::settings::{Switch, Tuning};
use crate::store::{PoolMode, Store, StoreError};
use crate::systemd;
use crate::tasks::gauges::{ReadGauges, Tidy};
use crate::tasks::{
    self, eraser::Eraser, idle::Idle, listener::Listener, room_settings::ReadRoomSettings, sweeper::Sweeper,
    trimmer::Trimmer, webhooks::DeliverWebhooks,
};
use crate::webhooks::WebhookSender;

/// Deadline from the signal to the end of the process. Requests that still run then are cut.
const STOP_MAX: Duration = Duration::from_secs(4);

/// Delay between the last accepted connection and stopping the server. On stop, actix drops connections that it has
/// accepted and not begun to read. After this delay there are none, which avoids that race.
const SETTLE: Duration = Duration::from_millis(500);

/// Everything that a replica needs to start.
pub struct Parts {
    /// The listening socket. It is bound already, so that an address in use is found before anything starts.
    pub socket: TcpListener,
    /// The database. Its schema must be up to date.
    pub database: PgConnectOptions,
    /// Whether the database is reached through a pooler.
    pub pool_mode: PoolMode,
    /// The direct connection for LISTEN, if `database` leads to a pooler.
    pub listen_database: Option<PgConnectOptions>,
    /// Keys that check credentials.
    pub keys: Keys,
    /// The TLS certificate; none to serve plain HTTP.
    pub certificate: Option<Certificate>,
    /// All other settings.
    pub tuning: Tuning,
    /// In `dev`: any caller is given a token, and the demo page is served.
    pub mint: Option<TokenKey>,
}

/// A running replica.
pub struct Replica {
    address: SocketAddr,
    service: web::Data<Service>,
    certificate: Option<Arc<Certificate>>,
    /// Streams on raw sockets, which actix does not track.
    streams: TaskTracker,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    workers: u16,
    /// Has a permit for each worker that has started.
    started: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Replica {
    /// Starts all parts: the hub before the commands that wake it, then the tasks, and the HTTP server last. Requests
    /// are served when this returns.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let Parts { socket, database, pool_mode, listen_database, keys, certificate, tuning, mint } = parts;
        let certificate = certificate.map(Arc::new);
        let address = socket.local_addr()?;
        let store =
            Store::new(database.clone(), pool_mode, tuning.database_connections, &replica_name(address));
        let hub = Hub::start(store.clone());
        let waiting = tasks::idle::IdleQueue::default();
        let (moved, stirred) = (hub.clone(), waiting.clone());
        let commands = Commands::start(
            store.clone(),
            tuning.timing(),
            tuning.limits.user_limits(),
            Arc::new(move |hints| moved.hint("own", hints)),
            Arc::new(move |sessions| stirred.add(sessions)),
        );
        let mut running = JoinSet::new();
        running.spawn(systemd::report(hub.clone()));
        let (interval, lease) = (tuning.sweep_interval, tuning.lease);
        running.spawn(tasks::run(ReadRoomSettings { store: store.clone(), hub: hub.clone() }));
        running.spawn(tasks::run(Sweeper { store: store.clone(), interval, lease, hub: hub.clone() }));
        running.spawn(tasks::run(ReadGauges { store: store.clone(), hub: hub.clone(), lease }));
        running.spawn(tasks::run(Tidy));
        let (retention, keep) = (tuning.retention, tuning.webhooks.webhooks_keep);
        running.spawn(tasks::run(Trimmer { store: store.clone(), retention, keep }));
        running.spawn(tasks::run(Eraser { store: store.clone() }));
        let (sender, plain) = (WebhookSender::new(), tuning.webhooks.plain());
        running.spawn(tasks::run(DeliverWebhooks::new(store.clone(), sender.clone(), plain)));
        running.spawn(tasks::run(Idle { store: store.clone(), idle_after: tuning.idle_after, waiting }));
        if tuning.listener == Switch::On {
            let options = listen_database.unwrap_or(database);
            running.spawn(Listener { store: store.clone(), options, hub: hub.clone() }.run());
        }
        let connections = Connections::new(&tuning.limits);
        let service = web::Data::new(Service {
            commands,
            hub,
            store,
            webhooks: Hooks { sender, plain },
            keys,
            checked: Checked::default(),
            limits: Limits::new(tuning.limits),
            profiles_by: tuning.profiles_by,
            erasure_by: tuning.erasure_by,
            max_stream_age: tuning.max_stream_age,
            mint,
            draining: AtomicBool::new(false),
        });
        running.spawn(tasks::run(Forget { service: service.clone() }));
        running.spawn(tasks::run(ReadBarred { service: service.clone() }));
        if service.keys.verifier().has_files() {
            running.spawn(tasks::run(ReadKeys { service: service.clone() }));
        }
        running.spawn(fetch_keys(service.clone()));
        if let Some(certificate) = certificate.clone() {
            running.spawn(tasks::run(ReadCertificate { certificate }));
        }
        let apart = tuning.operator_listen.is_some();
        let audience = if apart { Audience::Clients } else { Audience::Everybody };
        let (workers, origins) = (tuning.workers.unwrap_or_else(cores), tuning.cors_origins);
        let started = Arc::new(Semaphore::new(0));
        let streams = TaskTracker::new();
        let front = Front {
            api: routes::api,
            pages: if service.mint.is_some() { routes::pages_of_dev } else { routes::pages },
            certificate: certificate.clone(),
            connections,
            workers,
            origins,
            audience,
            streams: streams.clone(),
            stop_max: STOP_MAX,
            started: started.clone(),
        };
        let server = serve(socket, service.clone(), front)?;
        if let Some(listen) = tuning.operator_listen {
            let server =
                serve_operators(listen, service.clone(), routes::for_operators).map_err(|error| {
                    Error::new(error.kind(), format!("HEADCOUNT_OPERATOR_LISTEN {listen}: {error}"))
                })?;
            running.spawn(async move { drop(server.await) });
        }
        let handle = server.handle();
        let serving = tokio::spawn(server);
        Ok(Self {
            address,
            service,
            certificate,
            streams,
            server: handle,
            serving,
            workers,
            started,
            tasks: running,
        })
    }

    /// The address on which it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until every worker serves. Without this, a replica whose workers cannot start would be taken for one that
    /// serves, because the listening socket accepts connections all the same.
    pub async fn started(&mut self) -> std::io::Result<()> {
        tokio::select! {
            _ = self.started.acquire_many(self.workers.into()) => Ok(()),
            error = ended(&mut self.serving) => Err(error),
        }
    }

    /// Waits until the server ends though nobody stopped it: it cannot go on.
    pub async fn ended(&mut self) -> std::io::Error {
        ended(&mut self.serving).await
    }

    /// Reads key files and the certificate now, instead of at their next period. Those that cannot be read stay
    /// unchanged.
    pub async fn reload(&self) {
        use tasks::Periodic;
        tracing::info!("token keys and the certificate are read again");
        let _ = ReadKeys { service: self.service.clone() }.run_once().await; // both log their failures
        if let Some(certificate) = self.certificate.clone() {
            let _ = ReadCertificate { certificate }.run_once().await;
        }
    }

    /// Drains the replica. The health check reports it as not ready immediately, every stream is told, and open
    /// requests end. Then the tasks stop and the connections close. New connections meanwhile queue in the listening
    /// socket, for the process that takes it over.
    pub async fn stop(mut self) {
        self.service.draining.store(true, Ordering::Relaxed);
        self.server.pause().await;
        self.service.hub.drain().await;
        tokio::time::sleep(SETTLE).await;
        let rest = STOP_MAX.saturating_sub(SETTLE) / 2;
        self.streams.close();
        let _ = tokio::time::timeout(rest, self.streams.wait()).await; // then cuts those whose clients do not read
        let _ = tokio::time::timeout(rest, self.server.stop(true)).await; // requests that still run are cut below
        self.serving.abort();
        self.tasks.shutdown().await;
        let _ = tokio::time::timeout(Duration::from_millis(500), self.service.store.close()).await;
    }
}

async fn ended(serving: &mut JoinHandle<std::io::Result<()>>) -> Error {
    let error = match serving.await {
        Ok(Err(error)) => error,
        Ok(Ok(())) => Error::other("it stopped by itself"),
        Err(panic) => Error::other(panic),
    };
    Error::new(error.kind(), format!("the HTTP server: {error}"))
}

fn cores() -> u16 {
    std::thread::available_parallelism().map_or(2, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX))
}

/// Host name and port, which distinguish replicas wherever they run. Postgres keeps 63 bytes of an `application_name`,
/// including the prefix.
fn replica_name(address: SocketAddr) -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let host: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).take(32).collect();
    format!("{host}:{}", address.port())
}

/// Drops the rate limit state of callers that are back at their full allowance, which bounds its memory.
struct Forget {
    service: web::Data<Service>,
}

impl tasks::Periodic for Forget {
    const NAME: &'static str = "forget";

    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        self.service.limits.forget();
        Ok(None)
    }
}

/// Refreshes the cache of who is refused.
struct ReadBarred {
    service: web::Data<Service>,
}

impl tasks::Periodic for ReadBarred {
    const NAME: &'static str = "read who is refused";

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        Ok(self.service.read_barred().await?.then(|| "who is refused has changed".to_owned()))
    }
}

/// Reads key files periodically, so that keys rotate without a restart.
struct ReadKeys {
    service: web::Data<Service>,
}

impl tasks::Periodic for ReadKeys {
    const NAME: &'static str = "read keys";

    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        if let Err(error) = self.service.keys.verifier().reload() {
            tracing::warn!(%error, "token keys stay as they were");
        }
        Ok(None)
    }
}

/// Fetches keys if they come from a URL, so that they rotate without a restart.
async fn fetch_keys(service: web::Data<Service>) {
    if let Some(remote) = service.keys.verifier().remote() {
        remote.run().await;
    }
}

/// Reads the certificate periodically, so that a renewed one needs no restart.
struct ReadCertificate {
    certificate: Arc<Certificate>,
}

impl tasks::Periodic for ReadCertificate {
    const NAME: &'static str = "read certificate";

    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        match self.certificate.reload() {
            Ok(true) => tracing::info!("new connections get the new certificate"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the certificate stays as it was"),
        }
        Ok(None)
    }
}
