//! The running `postgres`, our child. Whatever becomes of this value, the process is told to stop.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::lock_file::signal;

/// Fast shutdown ends the sessions and writes a checkpoint. As long as the usual grace of whoever stops us.
const FAST_WITHIN: Duration = Duration::from_secs(10);
/// Immediate shutdown writes nothing; Postgres itself kills its stragglers after five seconds.
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

    /// `setpriv` becomes the program it runs, so this is the postmaster's.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it did. Doubt about that counts as running.
    pub(super) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Resolves when it ends.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks, then insists. False when it still runs after both.
    pub(super) async fn stop(&mut self) -> bool {
        for (how, within) in [(Signal::INT, FAST_WITHIN), (Signal::QUIT, IMMEDIATE_WITHIN)] {
            self.tell(how);
            if timeout(within, self.ended()).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Only until it was waited for: from then on its number may be somebody else's.
    fn tell(&self, how: Signal) {
        if self.child.id().is_some() {
            signal(self.pid, how);
        }
    }
}

impl Drop for Server {
    /// On an early return, a panic, a cancelled start. Nothing waits here; the next start does.
    fn drop(&mut self) {
        self.tell(Signal::INT);
    }
}
