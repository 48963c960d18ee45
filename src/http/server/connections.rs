//! Limits the open connections of an address, so that one address cannot take all the sockets that a process
//! may hold. A connection beyond the limit is closed before a request is read from it; open connections stay.
//! Trusted proxies are not counted.
//!
//! Bounded: it holds only addresses with an open connection.

use std::collections::HashMap;
use std::io::Result;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use socket2::SockRef;
use tokio_rustls::TlsAcceptor;

use super::transport::Transport;
use crate::domain::address::{self, TrustedProxies};
use crate::settings::LimitSettings;

/// The kernel doubles this for its own use.
const SEND_BUFFER: usize = 32 * 1024;

/// TCP user timeout: a peer that leaves data unacknowledged, or its receive window closed, for this long is
/// disconnected.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

type OpenConnections = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The open connections of a replica. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    most: usize,
    proxies: TrustedProxies,
    open: OpenConnections,
}

impl Connections {
    /// From the settings.
    pub fn new(settings: &LimitSettings) -> Self {
        let most = settings.connections_per_address;
        Self { most, proxies: settings.trusted_proxies.clone(), open: OpenConnections::default() }
    }

    /// Sets the options of an accepted connection, and shakes hands where it is to be encrypted. None if it is gone
    /// already, or its address has too many: decided before anything of it is read.
    pub(super) async fn take(
        &self,
        tcp: TcpStream,
        acceptor: Option<&TlsAcceptor>,
    ) -> Result<Option<Connection>> {
        let Some(permit) = self.accept(&tcp) else { return Ok(None) };
        let transport = match acceptor {
            Some(acceptor) => Transport::encrypt(tcp, acceptor).await?,
            None => Transport::Plain(tcp),
        };
        Ok(Some(Connection { transport, _permit: permit }))
    }

    fn accept(&self, tcp: &TcpStream) -> Option<ConnectionPermit> {
        set_options(tcp);
        self.permit(tcp.peer_addr().ok()?.ip())
    }

    fn permit(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let counted = self.most > 0 && !self.proxies.contains(address);
        if !counted {
            return Some(ConnectionPermit(None));
        }
        let address = address::counted(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit(Some((self.open.clone(), address))))
    }
}

/// An open connection, and its permit.
pub(super) struct Connection {
    pub(super) transport: Transport,
    _permit: ConnectionPermit,
}

/// A connection's permit; given back when dropped. None for one that is not counted.
struct ConnectionPermit(Option<(OpenConnections, IpAddr)>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some((open, address)) = self.0.take() else { return };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

/// Sets a small send buffer, so that a slow reader holds tens of kilobytes and not megabytes, and a timeout
/// for peers that neither read nor acknowledge.
fn set_options(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_send_buffer_size(SEND_BUFFER); // an option that cannot be set leaves the system's default
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let _ = socket.set_tcp_nodelay(true);
}
