//! `postmaster.pid`, Postgres's own lock file: reads which process holds it and whether that is ready, and clears a
//! stale one.
//!
//! The file is never deleted. Its seventh line names the shared memory by which Postgres detects that backends of a
//! dead postmaster still write; deleting the file would remove that guard. If the file provably names no Postgres of
//! this cluster, its process id is replaced by one that cannot exist, and Postgres decides on the rest.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::{
    error::{Doing, EmbeddedError},
    home::Home,
};

/// Marks each Postgres that headcount starts, on its command line and in its process titles.
pub(super) const MARK: &str = "cluster_name=headcount";
/// Linux gives out process ids up to 4,194,304.
const NEVER_A_PROCESS: u32 = i32::MAX as u32;

/// The contents of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LockFile {
    pub(super) pid: u32,
    pub(super) ready: bool,
}

impl LockFile {
    /// `None` if there is no file, or only the beginning of one that is being written.
    pub(super) fn read(cluster: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path(cluster)).ok()?)
    }

    /// Line 1 is the process id, line 8 the status.
    fn parse(text: &str) -> Option<Self> {
        let pid = text.lines().next()?.trim().parse().ok()?;
        Some(Self { pid, ready: text.lines().nth(7).is_some_and(|status| status.trim() == "ready") })
    }
}

fn path(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

/// Clears the lock file for a new Postgres, or reports the process that holds it. We hold the directory's lock, so a
/// Postgres of ours that runs here has lost its headcount. It is stopped here if the kernel could not be asked to.
pub(super) async fn clear(home: &Home, patience: Instant) -> Result<(), EmbeddedError> {
    let cluster = home.cluster();
    let mut told = false;
    while let Some(LockFile { pid, .. }) = LockFile::read(&cluster) {
        match holder(pid, &cluster) {
            Holder::Unknown => return Ok(()), // Postgres decides.
            Holder::Nobody => return readdress(home),
            Holder::NotOurs => return Err(EmbeddedError::NotOurs { pid, cluster }),
            Holder::Orphan if Instant::now() >= patience => {
                return Err(EmbeddedError::OrphanStays(pid));
            }
            Holder::Orphan if told => {}
            Holder::Orphan => {
                tracing::warn!(pid, "stopping the Postgres of a headcount that was killed");
                told = signal(pid, Signal::INT);
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Replaces the process id. Also removes the socket's lock file: it names the same process, so it is stale too.
fn readdress(home: &Home) -> Result<(), EmbeddedError> {
    let path = path(&home.cluster());
    let doing = || format!("clearing the stale lock in {}", path.display());
    home.sockets.empty().doing(doing)?;
    let text = fs::read_to_string(&path).doing(doing)?;
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    fs::write(&path, format!("{NEVER_A_PROCESS}\n{rest}")).doing(doing)
}

/// The process behind a process id in a lock file.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// No process, a zombie, or one that has nothing to do with the cluster: after a reboot or in a new container,
    /// the id may have been reused.
    Nobody,
    /// A Postgres that an earlier headcount started.
    Orphan,
    /// A Postgres that headcount did not start.
    NotOurs,
    /// It cannot be inspected.
    Unknown,
}

/// A postmaster's working directory is its cluster, which proves or disproves that it is one. Reading it for another
/// user's process needs a privilege that containers take from root; without it the command line must suffice.
fn holder(pid: u32, cluster: &Path) -> Holder {
    let process = PathBuf::from(format!("/proc/{pid}"));
    // The process is gone, or this system hides processes: Postgres can tell.
    let Ok(stat) = fs::read_to_string(process.join("stat")) else {
        return Holder::Unknown;
    };
    // `pid (name) state ...`, where the name may contain anything, even parentheses.
    let Some((name, state)) = stat.rsplit_once(") ") else {
        return Holder::Unknown;
    };
    let is_postgres = ["postgres", "postmaster"].iter().any(|program| name.contains(program));
    if !is_postgres || state.starts_with(['Z', 'X']) {
        return Holder::Nobody;
    }
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let says = |wanted: &[u8]| command.split(|byte| *byte == 0).any(|argument| argument == wanted);
    match same_dir(&process.join("cwd"), cluster) {
        Some(false) => Holder::Nobody,
        None if !says(cluster.as_os_str().as_encoded_bytes()) => Holder::Unknown,
        _ if says(MARK.as_bytes()) => Holder::Orphan,
        _ => Holder::NotOurs,
    }
}

fn same_dir(one: &Path, other: &Path) -> Option<bool> {
    let identity = |path| fs::metadata(path).map(|dir| (dir.dev(), dir.ino())).ok();
    Some(identity(one)? == identity(other)?)
}

/// False when the process no longer exists, or may not be signalled.
pub(super) fn signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_is_read_at_every_stage_of_being_written() {
        let starting = "4711\n/data/cluster\n1700000000\n5432\n/data/run\n\n 7340 2\nstarting\n";
        let read = |text| LockFile::parse(text);
        assert_eq!(read(""), None);
        assert_eq!(read("4711\n"), Some(LockFile { pid: 4711, ready: false }));
        assert_eq!(read(starting), Some(LockFile { pid: 4711, ready: false }));
        let ready = starting.replace("starting", "ready   ");
        assert_eq!(read(&ready), Some(LockFile { pid: 4711, ready: true }));
        // Postgres in single-user mode writes its process id negated; Postgres decides on that.
        assert_eq!(read("-4711\n"), None);
    }

    #[test]
    fn a_living_process_that_works_elsewhere_holds_nothing() {
        let cluster = tempfile::tempdir().unwrap();
        assert_eq!(holder(std::process::id(), cluster.path()), Holder::Nobody);
        assert_eq!(holder(NEVER_A_PROCESS, cluster.path()), Holder::Unknown);
    }
}
