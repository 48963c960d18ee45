//! The HTTP servers: what clients meet, and what operators meet where they have an address of their own.

pub mod connections;
mod guard;
mod observe;
mod socket;
pub mod tls;
mod trace_context;

use std::future::ready;
use std::io::Result;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, Protocol, Request};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, Error, HttpServer, web};
use tokio_util::task::TaskTracker;
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::http::request::audience::Audience;
use crate::http::request::problem::{Code, Problem};
use crate::http::service::Service;
use crate::hub::Fan;
use connections::Connections;
use observe::observe;
use socket::{Socket, carry};
use tls::Certificate;

/// How long an idle connection is kept: longer than a hidden session's heartbeat (60 s), and than what proxies keep
/// theirs for (nginx: 60 s), so that it is never the server that closes just when a request is on its way.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// TLS handshakes under way on a worker, at most: as many as there can be sockets. At actix's 256, as many silent
/// connections would keep everybody else out for the 3 s that each may take.
const HANDSHAKES_MAX: usize = 20_000;

/// Connections that wait to be accepted, at most: the standard library's 128 are few when a restarted replica's watchers
/// come back, and one that finds no place tries again a second later. The system's `somaxconn` may allow fewer.
const BACKLOG: i32 = 4096;

/// How long the end of a connection may take, as `HttpServer` has it.
const DISCONNECT_MAX: Duration = Duration::from_secs(1);

/// What clients meet.
pub struct Front {
    /// The documented calls.
    pub api: fn(&mut ServiceConfig<'_>),
    /// Pages, and the handler for addresses that do not exist.
    pub pages: fn(&mut web::ServiceConfig),
    /// None: plain HTTP.
    pub certificate: Option<Arc<Certificate>>,
    /// Whose connections are taken.
    pub connections: Connections,
    /// Threads; as many as there are cores, when not given.
    pub workers: Option<u16>,
    /// Other origins that may call.
    pub origins: Vec<String>,
    /// Who may see what is for operators.
    pub audience: Audience,
    /// The streams on bare sockets.
    pub streams: TaskTracker,
    /// How long a stop may take.
    pub stop_max: Duration,
}

/// Starts the server of clients.
pub fn serve(socket: TcpListener, service: web::Data<Service>, front: Front) -> Result<Server> {
    let Front { api, pages, certificate, connections, workers, origins, audience, streams, stop_max } = front;
    let encrypted = certificate.is_some();
    let app = move || {
        let fan = Fan::start(service.hub.clone());
        App::new()
            .into_utoipa_app()
            .map(|app| {
                app.wrap(from_fn(guard::guard))
                    .wrap(guard::cors(&origins, service.mint.is_some()))
                    .wrap(from_fn(observe))
                    .wrap(from_fn(carry))
            })
            .app_data(service.clone())
            .app_data(streams.clone())
            .app_data(web::Data::new(audience))
            .app_data(web::Data::new(fan) as web::Data<Rc<Fan>>)
            .app_data(query_errors())
            .configure(api)
            .configure(|config| {
                if encrypted {
                    config.app_data(guard::Encrypted);
                }
            })
            .into_app()
            .configure(pages)
    };
    let workers = workers.map_or_else(cores, usize::from);
    let _ = socket2::SockRef::from(&socket).listen(BACKLOG); // listening already: this only makes the queue longer
    let Some(certificate) = certificate else {
        return plain(socket, workers, stop_max, connections, app);
    };
    let server = HttpServer::new(app)
        .disable_signals()
        .workers(workers)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(stop_max.as_secs() - 1)
        .max_connection_rate(HANDSHAKES_MAX)
        .on_connect(move |connection, extensions| connections.accept_encrypted(connection, extensions))
        .listen_rustls_0_23(socket, certificate.accept())?;
    Ok(server.run())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// What `HttpServer` does for plain connections, but for where requests are read from: a [`Socket`].
fn plain<I, S, B>(
    socket: TcpListener,
    workers: usize,
    stop_max: Duration,
    connections: Connections,
    app: impl Fn() -> I + Send + Clone + 'static,
) -> Result<Server>
where
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::InitError: std::fmt::Debug,
    B: MessageBody + 'static,
{
    let address = socket.local_addr()?;
    let builder = Server::build().disable_signals().workers(workers).shutdown_timeout(stop_max.as_secs() - 1);
    let stopping = builder.graceful_shutdown_signal();
    let server = builder.listen("http", socket, move || {
        let connections = connections.clone();
        let stopping = stopping.clone();
        let app = app().into_factory().map_err(|error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_disconnect_timeout(DISCONNECT_MAX)
            .local_addr(address)
            .on_connect_ext(|socket: &Socket, extensions| socket.tell(extensions))
            .finish(map_config(app, |()| AppConfig::default())); // no handler asks what we are called
        fn_service(move |tcp: TcpStream| {
            let peer = tcp.peer_addr().ok();
            ready(Ok((Socket::new(connections.take(tcp)), Protocol::Http1, peer)))
        })
        .and_then(http)
    })?;
    Ok(server.run())
}

/// Starts the server of operators, with these routes.
pub fn serve_operators(
    listen: SocketAddr,
    service: web::Data<Service>,
    routes: fn(&mut web::ServiceConfig),
) -> Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(service.clone())
            .wrap(from_fn(guard::guard))
            .wrap(from_fn(observe))
            .app_data(web::Data::new(Audience::Everybody))
            .app_data(query_errors())
            .configure(routes)
    });
    Ok(server.disable_signals().workers(1).bind(listen)?.run())
}

fn query_errors() -> web::QueryConfig {
    web::QueryConfig::default()
        .error_handler(|error, _| Problem::with(Code::InvalidQuery, error.to_string()).into())
}
