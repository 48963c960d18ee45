//! A Postgres that is started by hand, on a cluster that another one made: a standby, or one whose clock is bent.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tempfile::TempDir;

use crate::postgres::signal;

/// Ends, at once and without a checkpoint, when dropped.
pub struct BarePostgres {
    child: Child,
    sockets: TempDir,
}

impl BarePostgres {
    /// Starts it on a cluster, as the user whose cluster it is.
    pub fn start(cluster: &Path, log: &Path, environment: &[(&str, String)]) -> Self {
        let sockets = tempfile::Builder::new().prefix("hcs-").tempdir().unwrap();
        hand_over(sockets.path(), cluster);
        let mut command = as_owner(cluster, environment, &bin("postgres"));
        command.arg("-D").arg(cluster).args(["-p", "5432", "-c", "listen_addresses="]);
        command.arg("-c").arg(format!("unix_socket_directories={}", sockets.path().display()));
        let log = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap(), sockets }
    }

    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().socket(self.sockets.path()).port(5432);
        options.username("postgres").database(database).ssl_mode(PgSslMode::Disable)
    }
}

impl Drop for BarePostgres {
    fn drop(&mut self) {
        signal(self.child.id(), Signal::QUIT);
        let _ = self.child.wait();
    }
}

/// A copy of a running Postgres that follows it.
pub fn base_backup(sockets: &Path, owner: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    hand_over(to, owner);
    let mut command = as_owner(owner, &[], &bin("pg_basebackup"));
    command.arg("-h").arg(sockets).args(["-U", "postgres", "-R", "-c", "fast", "-X", "stream", "-D"]).arg(to);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn hand_over(dir: &Path, owner: &Path) {
    let owner = std::fs::metadata(owner).unwrap();
    chown(dir, Some(owner.uid()), Some(owner.gid())).unwrap();
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

/// Ends with the thread that starts it. The variables are not those of root's `setpriv`: a library that is loaded by
/// them must not make files as root.
fn as_owner(of: &Path, environment: &[(&str, String)], program: &Path) -> Command {
    let owner = std::fs::metadata(of).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if rustix::process::geteuid().is_root() {
        command.args([
            format!("--reuid={}", owner.uid()),
            format!("--regid={}", owner.gid()),
            "--clear-groups".into(),
        ]);
    }
    command.args(["--", "env"]).args(environment.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(program).current_dir("/");
    command
}

/// Where Postgres's programs are: as told, or Debian's newest.
fn bin(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("HEADCOUNT_POSTGRES_BIN") {
        return Path::new(&dir).join(name);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path().join("bin").join(name)).filter(|path| path.exists()).max();
    newest.unwrap_or_else(|| name.into())
}
