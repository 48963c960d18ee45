//! Runs Postgres's programs as its user, with the log as their output, and starts `postgres`.

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{
    binaries::Binaries,
    error::{Doing, EmbeddedError},
    home::Home,
    lock_file::{LockFile, MARK},
    options::{Durability, EmbeddedOptions},
    server::Server,
};

/// After a crash Postgres first replays up to `max_wal_size`, 1 GB.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What every start of a program here has in common.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) binaries: Binaries,
    pub(super) home: Home,
    /// Whether `setpriv` can have the kernel stop a program when we die.
    setpriv: bool,
}

impl Launcher {
    /// Tries both ways of running a program, without and with `setpriv`, on one that does nothing.
    pub(super) async fn new(binaries: Binaries, home: Home) -> Result<Self, EmbeddedError> {
        let mut launcher = Self { binaries, home, setpriv: false };
        launcher.check_the_way()?;
        let postgres = launcher.binaries.postgres();
        let version = [OsStr::new("--version")];
        launcher.run(&postgres, &version).await?;
        // Absent outside Linux, and without --pdeathsig in busybox.
        launcher.setpriv = true;
        launcher.setpriv = launcher.run(&postgres, &version).await.is_ok();
        Ok(launcher)
    }

    /// "Permission denied" alone would not say which directory is closed, nor to whom.
    fn check_the_way(&self) -> Result<(), EmbeddedError> {
        let Some(account) = &self.home.account else {
            return Ok(());
        };
        let Some(closed) = account.closed_on_the_way(self.binaries.dir()) else {
            return Ok(());
        };
        Err(EmbeddedError::NotReachable {
            path: self.binaries.postgres(),
            closed,
            account: account.name.clone(),
            advice: "install Postgres elsewhere, or start headcount as an ordinary user",
        })
    }

    /// Through `setpriv` the kernel signals the program when the thread that starts it ends. The process
    /// group is its own, so that Ctrl-C in a terminal reaches headcount, which then stops Postgres in its
    /// turn.
    fn command(&self, program: &Path, when_we_die: &str) -> Result<Command, EmbeddedError> {
        let mut command = Command::new(if self.setpriv { Path::new("setpriv") } else { program });
        if self.setpriv {
            command.args(["--pdeathsig", when_we_die, "--"]).arg(program);
        }
        if let Some(account) = &self.home.account {
            // As root this gives up the supplementary groups too.
            command.uid(account.uid).gid(account.gid);
        }
        let log = self.home.log()?;
        let errors = log.try_clone().doing(|| "sharing the log of Postgres".to_owned())?;
        command.current_dir(&self.home.root).process_group(0);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // The log is read by people and by `is_locked`: one language. One time zone, so initdb need not
        // guess.
        command.env("LC_ALL", "C").env("TZ", "UTC");
        Ok(command)
    }

    /// Runs a program to its end. It is killed when we are: half a cluster is made anew.
    pub(super) async fn run(&self, program: &Path, args: &[&OsStr]) -> Result<(), EmbeddedError> {
        let mut command = self.command(program, "KILL")?;
        let ran = command.args(args).kill_on_drop(true).status().await;
        let status = ran.doing(|| format!("running {}", program.display()))?;
        if status.success() {
            Ok(())
        } else {
            Err(self.failed(format!("{} failed ({status})", program.display())))
        }
    }

    pub(super) fn failed(&self, what: String) -> EmbeddedError {
        EmbeddedError::Failed { what, log: self.home.log_tail() }
    }

    /// Starts Postgres and waits until it takes connections.
    pub(super) async fn launch(&self, options: &EmbeddedOptions) -> Result<Server, EmbeddedError> {
        let mut command = self.command(&self.binaries.postgres(), "INT")?;
        command.arg("-D").arg(self.home.cluster()).args(["-p", "5432"]);
        for setting in settings(options, &self.home.sockets.path) {
            command.arg("-c").arg(setting);
        }
        let server = Server::spawn(&mut command).doing(|| "starting Postgres".to_owned())?;
        self.until_ready(server).await
    }

    /// Ready is what the lock file of our own child says. A connection that works would prove less: it may be
    /// to somebody else's Postgres.
    async fn until_ready(&self, mut server: Server) -> Result<Server, EmbeddedError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let lock = LockFile::read(&self.home.cluster());
            if let Some(status) = server.has_ended() {
                return Err(self.why_it_ended(&format!("Postgres did not start ({status})")));
            }
            if lock == Some(LockFile { pid: server.pid(), ready: true }) {
                return Ok(server);
            }
            if Instant::now() >= deadline {
                return Err(self.failed(format!("Postgres was not ready within {READY_WITHIN:?}")));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn why_it_ended(&self, what: &str) -> EmbeddedError {
        let log = self.home.log_tail();
        if is_locked(&log.lines) { EmbeddedError::Locked(log) } else { self.failed(what.to_owned()) }
    }
}

/// Whether Postgres ended because of a lock, which may be let go in a moment: right after a crash, backends
/// whose postmaster was killed still write.
fn is_locked(log: &str) -> bool {
    let reason = log.lines().rfind(|line| line.contains("FATAL:")).unwrap_or_default();
    ["lock file", "shared memory block"].iter().any(|lock| reason.contains(lock))
}

fn settings(options: &EmbeddedOptions, sockets: &Path) -> Vec<String> {
    let mut settings = vec![
        MARK.to_owned(),
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={}", sockets.display()),
        format!("max_connections={}", options.max_connections),
    ];
    if options.durability == Durability::Off {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"].map(str::to_owned));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_reason_counts() {
        let locked =
            "FATAL:  lock file \"postmaster.pid\" already exists\nHINT:  Is another postmaster running?";
        let lingering = "FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use";
        assert!(is_locked(locked) && is_locked(lingering));
        assert!(!is_locked(&format!("{locked}\nFATAL:  could not map shared memory")));
        assert!(!is_locked("LOG:  lock file found"));
    }
}
