//! The interface to systemd: socket activation, readiness, status, and the watchdog. Without systemd every call is a
//! no-op.
//!
//! A message that cannot be sent is dropped without a retry, because no request depends on it.

use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::hub::Hub;

/// Period of reports, unless the watchdog needs a shorter one.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A worker ticks every second. A worker without a tick for this long is stuck, whatever the load.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the sockets that systemd passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// More than one socket: the service listens on one address.
    #[error("systemd handed over {0} sockets; one is served on: keep one ListenStream= in headcount.socket")]
    Several(usize),
    /// Not a listening TCP socket.
    #[error("the socket that systemd handed over cannot be served on: {0}")]
    Kind(std::io::Error),
}

/// The listening socket, if systemd passed one. Connections queue in it while the process is restarted.
pub fn socket() -> Result<Option<TcpListener>, SocketError> {
    let mut handed = ListenFd::from_env();
    match handed.len() {
        0 | 1 => handed.take_tcp_listener(0).map_err(SocketError::Kind),
        several => Err(SocketError::Several(several)),
    }
}

/// Reports that requests are served.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports why the start takes longer, and extends systemd's start timeout.
pub fn waiting(why: &str) {
    let longer = u32::try_from((3 * REPORT_EVERY).as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(longer), NotifyState::Status(why)]);
}

/// Reports that the process stops, and that open streams are being drained.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Reports the replica's status, and is the heartbeat of systemd's watchdog. The health check covers the runtime on
/// which this runs, the feed, and every worker. If it fails, the heartbeat stops, and systemd restarts the process.
pub async fn report(hub: Hub) {
    let every = sd_notify::watchdog_enabled().map_or(REPORT_EVERY, |most| (most / 3).min(REPORT_EVERY));
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        if !hub.lives(PATIENCE) {
            tracing::error!("a worker is stuck");
            continue;
        }
        let database = if hub.stale() { "does not answer" } else { "answers" };
        let status = format!("{} watchers; the database {database}", hub.watchers());
        // On a thread for blocking calls: a systemd that does not read would block a thread of the runtime.
        let told = tokio::task::spawn_blocking(move || {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
        });
        let _ = told.await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd does not hear");
    }
}
