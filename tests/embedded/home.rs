//! Data directories for these tests, and the processes that stand in them.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use headcount::store::embedded::{Durability, EmbeddedError, EmbeddedOptions, EmbeddedPostgres};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

/// Names the data directory of a headcount that is there to be killed.
pub(crate) const VICTIM: &str = "HEADCOUNT_TEST_EMBEDDED_VICTIM";

pub(crate) fn victim(dir: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "a_headcount_to_be_killed", "--nocapture"]).env(VICTIM, dir);
    command
}

/// A data directory, gone with the test.
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    _parent: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::inside(&["data"])
    }

    /// Its parent is open to all, whatever the umask says.
    pub(crate) fn inside(path: &[&str]) -> Self {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let dir = path.iter().fold(fs::canonicalize(parent.path()).unwrap(), |dir, name| dir.join(name));
        Self { dir, _parent: parent }
    }

    pub(crate) fn options(&self) -> EmbeddedOptions {
        options(self.dir.clone())
    }

    pub(crate) async fn start(&self) -> Result<EmbeddedPostgres, EmbeddedError> {
        EmbeddedPostgres::start(self.options()).await
    }

    pub(crate) fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.cluster().join("postmaster.pid")
    }

    /// The process id of the postmaster, once it takes connections.
    pub(crate) fn ready_pid(&self) -> u32 {
        until("Postgres is ready", || {
            let lock = fs::read_to_string(self.lock_file()).ok()?;
            lock.contains("ready").then(|| lock.lines().next().unwrap().parse().unwrap())
        })
    }

    /// To the Postgres of the other headcount, which cannot be asked.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().socket(self.dir.join("run")).port(5432);
        options.username("postgres").database("headcount")
    }

    /// Another headcount on this directory, which has its database when this returns.
    pub(crate) fn victim(&self, path: &OsStr) -> Child {
        let mut command = victim(&self.dir);
        let child = command.env("PATH", path).stdout(Stdio::null()).spawn().unwrap();
        until("the other headcount is ready", || self.dir.join("victim-is-ready").exists().then_some(()));
        child
    }

    pub(crate) fn started_by_hand(&self, program: &Path) -> Child {
        let owner = fs::metadata(self.cluster()).unwrap();
        let mut command = Command::new(program);
        command
            .arg("-D")
            .arg(self.cluster())
            .args(["-c", "listen_addresses=", "-k"])
            .arg(self.dir.join("run"));
        command.current_dir(&self.dir).stdout(Stdio::null()).stderr(Stdio::null());
        command.uid(owner.uid()).gid(owner.gid()).spawn().unwrap()
    }

    pub(crate) async fn start_over_the_lock_of(&self, pid: u32) {
        let sockets = self.dir.join("run");
        let lock = format!("{pid}\n{}\n1\n5432\n{}\n\n", self.cluster().display(), sockets.display());
        for stale in [self.lock_file(), sockets.join(".s.PGSQL.5432.lock")] {
            fs::write(&stale, &lock).unwrap();
            let owner = fs::metadata(self.cluster()).unwrap();
            chown(&stale, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        self.start().await.unwrap().stop().await.unwrap();
    }
}

pub(crate) fn options(data_dir: PathBuf) -> EmbeddedOptions {
    EmbeddedOptions { data_dir, durability: Durability::Off, max_connections: 20 }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// False for one that is dead, buried or not.
pub(crate) fn is_running(pid: u32) -> bool {
    let exists = test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok();
    exists && !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// A search path with Postgres on it and nothing else.
pub(crate) fn link_postgres(path: &Path) {
    let found = env::split_paths(&env::var_os("PATH").unwrap())
        .map(|dir| dir.join("postgres"))
        .find(|file| file.exists());
    if let Some(found) = found {
        symlink(fs::canonicalize(found).unwrap(), path.join("postgres")).unwrap();
    }
}

/// Looks until the fact is there.
pub(crate) fn until<T>(fact: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {fact}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
