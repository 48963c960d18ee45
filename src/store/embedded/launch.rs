//! Runs Postgres's programs as its user, with their output to the log, and starts `postgres`.

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

/// Timeout of a start. After a crash Postgres first replays its write-ahead log, up to `max_wal_size`, 1 GB.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Runs Postgres's programs: their directory, and the data directory and user with which they run.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) binaries: Binaries,
    pub(super) home: Home,
    /// Whether `setpriv` works here, by which the kernel stops a program when this process dies.
    setpriv: bool,
}

impl Launcher {
    /// Probes both ways of running a program, without and with `setpriv`, by `postgres --version`.
    pub(super) async fn new(binaries: Binaries, home: Home) -> Result<Self, EmbeddedError> {
        let mut launcher = Self { binaries, home, setpriv: false };
        launcher.check_the_way()?;
        let postgres = launcher.binaries.postgres();
        let version = [OsStr::new("--version")];
        launcher.run(&postgres, &version).await?;
        // `setpriv` is absent outside Linux, and has no --pdeathsig in busybox.
        launcher.setpriv = true;
        launcher.setpriv = launcher.run(&postgres, &version).await.is_ok();
        Ok(launcher)
    }

    /// Reports which directory is closed to which user, because "Permission denied" alone would not.
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

    /// With `setpriv` the kernel signals the program when the thread that started it ends. The program gets its own
    /// process group, so that Ctrl-C in a terminal reaches only headcount, which then stops Postgres in order.
    fn command(&self, program: &Path, when_we_die: &str) -> Result<Command, EmbeddedError> {
        let mut command = Command::new(if self.setpriv { Path::new("setpriv") } else { program });
        if self.setpriv {
            command.args(["--pdeathsig", when_we_die, "--"]).arg(program);
        }
        if let Some(account) = &self.home.account {
            // If headcount is root, this drops the supplementary groups too.
            command.uid(account.uid).gid(account.gid);
        }
        let log = self.home.log()?;
        let errors = log.try_clone().doing(|| "sharing the log of Postgres".to_owned())?;
        command.current_dir(&self.home.root).process_group(0);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // People and `is_locked` read the log, so its language is fixed. The time zone is fixed so that initdb need not
        // guess it.
        command.env("LC_ALL", "C").env("TZ", "UTC");
        Ok(command)
    }

    /// Runs a program to its end. It is killed when this process is: a half-made cluster is made again.
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

    /// Waits until the lock file says that our own child is ready. A successful connection would prove less: it may
    /// be to another Postgres.
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

/// Whether Postgres ended because of a lock, in which case a retry may succeed: right after a crash, backends of the
/// killed postmaster still write.
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
