//! The running `postgres`, our child process. However this value is dropped, the process is signalled to stop.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::lock_file::signal;

/// Timeout of a fast shutdown, which ends the sessions and writes a checkpoint. It equals the usual grace that a
/// supervisor gives this process.
const FAST_WITHIN: Duration = Duration::from_secs(10);
/// Timeout of an immediate shutdown, which writes nothing. Postgres itself kills remaining processes after five
/// seconds.
const IMMEDIATE_WITHIN: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pid: u32,
}

impl Server {
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let pid = child.id().expect("a child has its id until it is waited for");
        Ok(Self { child, pid })
    }

    /// The postmaster's process id: `setpriv` execs the program, so the id stays the same.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status, if it has ended. An error counts as running.
    pub(super) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Resolves when it ends.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// A fast shutdown, then an immediate one. False when it still runs after both.
    pub(super) async fn stop(&mut self) -> bool {
        for (how, within) in [(Signal::INT, FAST_WITHIN), (Signal::QUIT, IMMEDIATE_WITHIN)] {
            self.tell(how);
            if timeout(within, self.ended()).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Signals it, unless it has been waited for: after that its process id may be reused.
    fn tell(&self, how: Signal) {
        if self.child.id().is_some() {
            signal(self.pid, how);
        }
    }
}

impl Drop for Server {
    /// Runs on an early return, a panic or a cancelled start. It does not wait; the next start does.
    fn drop(&mut self) {
        self.tell(Signal::INT);
    }
}
