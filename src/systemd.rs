//! What systemd hands to a process, and what it wants to hear: the socket that it keeps over a restart, when requests are
//! served, what the process does, and that it still lives. Where there is no systemd every call does nothing.
//!
//! A message that cannot be sent is not sent again: nothing that is served depends on one.

use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::hub::Hub;

/// Between two reports, where systemd wants none more often.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A worker ticks every second. One that has not for this long is stuck, whatever the load.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why what was handed over cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// There is one address to serve on.
    #[error("systemd handed over {0} sockets; one is served on: keep one ListenStream= in headcount.socket")]
    Several(usize),
    /// It is of another kind.
    #[error("the socket that systemd handed over cannot be served on: {0}")]
    Kind(std::io::Error),
}

/// The listening socket, where one is handed over: connections wait in it while the process is restarted.
pub fn socket() -> Result<Option<TcpListener>, SocketError> {
    let mut handed = ListenFd::from_env();
    match handed.len() {
        0 | 1 => handed.take_tcp_listener(0).map_err(SocketError::Kind),
        several => Err(SocketError::Several(several)),
    }
}

/// Requests are served.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The start takes longer, and why: it is not given up meanwhile.
pub fn waiting(why: &str) {
    let longer = u32::try_from((3 * REPORT_EVERY).as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(longer), NotifyState::Status(why)]);
}

/// The process ends; what is open is told so.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says what this replica does, and that it lives, for as long as that is so: the runtime that runs this, the feed, and every
/// worker. A process that no longer does is ended by systemd, and started again.
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
        // A systemd that does not read would hold the thread.
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
