//! The HTTP servers: one for clients, and one for operators where they have an address of their own.

pub mod connections;
mod guard;
mod observe;
mod socket;
pub mod tls;
mod trace_context;
mod transport;
mod unread;

use std::io::Result;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request};
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service, map_config,
};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, Error, HttpServer, web};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::http::request::audience::Audience;
use crate::http::request::problem::{Code, Problem};
use crate::http::service::Service;
use crate::hub::Fan;
use crate::settings::Origins;
use connections::Connections;
use observe::observe;
use socket::{Socket, carry};
use tls::Certificate;

/// Keep-alive of an idle connection. It is longer than a hidden session's heartbeat interval (60 s, 66 s with
/// jitter), and than the keep-alive of proxies (nginx: 60 s): the server must not close a connection just
/// when a request is on its way (a race).
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Connections that wait to be accepted, at most: the standard library's 128 are few when a restarted replica's watchers
/// come back, and one that finds no place tries again a second later. The system's `somaxconn` may allow fewer.
const BACKLOG: i32 = 4096;

/// Timeout for closing a connection, as in `HttpServer`.
const DISCONNECT_MAX: Duration = Duration::from_secs(1);

/// The parts of the clients' server.
pub struct Front {
    /// The documented calls.
    pub api: fn(&mut ServiceConfig<'_>),
    /// Pages, and the handler for addresses that do not exist.
    pub pages: fn(&mut web::ServiceConfig),
    /// None: plain HTTP.
    pub certificate: Option<Arc<Certificate>>,
    /// The open connections, limited by address.
    pub connections: Connections,
    /// Threads.
    pub workers: u16,
    /// Other origins that may call.
    pub origins: Origins,
    /// Whether clients may use what is meant for operators.
    pub audience: Audience,
    /// Tracks the streams on raw sockets, which actix does not.
    pub streams: TaskTracker,
    /// Timeout of a stop.
    pub stop_max: Duration,
    /// Has a permit for each worker that has started.
    pub started: Arc<Semaphore>,
}

/// Starts the server of clients.
pub fn serve(socket: TcpListener, service: web::Data<Service>, front: Front) -> Result<Server> {
    let Front { api, pages, audience, streams, .. } = front;
    let origins = Arc::new(front.origins);
    let encrypted = front.certificate.is_some();
    let app = move || {
        let fan = Fan::start(service.hub.clone());
        App::new()
            .into_utoipa_app()
            .map(|app| {
                app.wrap(from_fn(guard::guard))
                    .wrap(guard::cors(origins.clone(), service.mint.is_some()))
                    .wrap(from_fn(observe))
                    .wrap(from_fn(carry))
                    .wrap(from_fn(unread::hold))
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
    let _ = socket2::SockRef::from(&socket).listen(BACKLOG); // listening already: this only makes the queue longer
    let acceptor = front.certificate.map(|certificate| TlsAcceptor::from(Arc::new(certificate.accept())));
    let accepting = Accepting { connections: front.connections, acceptor, started: front.started };
    listen(socket, front.workers.into(), front.stop_max, accepting, app)
}

/// How connections are accepted.
#[derive(Clone)]
struct Accepting {
    connections: Connections,
    /// None: plain HTTP.
    acceptor: Option<TlsAcceptor>,
    started: Arc<Semaphore>,
}

impl Accepting {
    async fn accept(self, tcp: TcpStream) -> std::result::Result<Accepted, DispatchError> {
        let peer = tcp.peer_addr().ok();
        let taken = self.connections.take(tcp, self.acceptor.as_ref()).await;
        Ok((Socket::new(taken.map_err(DispatchError::Io)?), Protocol::Http1, peer))
    }
}

/// What actix serves.
type Accepted = (Socket, Protocol, Option<SocketAddr>);

/// What `HttpServer` does, but for where requests are read from: a [`Socket`].
fn listen<I, S, B>(
    socket: TcpListener,
    workers: usize,
    stop_max: Duration,
    accepting: Accepting,
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
        let accepting = accepting.clone();
        let started = accepting.started.clone();
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
        let serving = Rc::new(fn_service(move |tcp: TcpStream| accepting.clone().accept(tcp)).and_then(http));
        fn_factory(move || {
            let (serving, started) = (serving.clone(), started.clone());
            async move {
                let serving = serving.new_service(()).await?;
                started.add_permits(1);
                Ok::<_, ()>(serving)
            }
        })
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
            .wrap(from_fn(unread::hold))
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
