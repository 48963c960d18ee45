//! `postmaster.pid`, Postgres's own lock file: who holds it, whether they are ready, and what to do about a
//! holder that is left over.
//!
//! It is never deleted here. Its seventh line names the shared memory by which Postgres knows that backends
//! of a dead postmaster are still writing; without the file that guard is gone. A file that provably names no
//! Postgres of this cluster is addressed to a process id that cannot exist, and Postgres judges the rest.

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

/// On the command line of each Postgres we start, and in its process titles, so that it is known again.
pub(super) const MARK: &str = "cluster_name=headcount";
/// Linux gives out process ids up to 4,194,304.
const NEVER_A_PROCESS: u32 = i32::MAX as u32;

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LockFile {
    pub(super) pid: u32,
    pub(super) ready: bool,
}

impl LockFile {
    /// `None` too for the half of a file that is being written.
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

/// Makes way for a new Postgres, or says who is in it. We hold the directory's lock, so a Postgres of ours in
/// it has lost its headcount: where the kernel could not be asked to stop it, it is stopped here.
pub(super) async fn clear(home: &Home, patience: Instant) -> Result<(), EmbeddedError> {
    let cluster = home.cluster();
    let mut told = false;
    while let Some(LockFile { pid, .. }) = LockFile::read(&cluster) {
        match holder(pid, &cluster) {
            Holder::Unknown => return Ok(()), // Postgres will judge.
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

/// The socket's lock file names the same process, and guards nothing once that is known to be no Postgres.
fn readdress(home: &Home) -> Result<(), EmbeddedError> {
    let path = path(&home.cluster());
    let doing = || format!("clearing the stale lock in {}", path.display());
    home.sockets.empty().doing(doing)?;
    let text = fs::read_to_string(&path).doing(doing)?;
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    fs::write(&path, format!("{NEVER_A_PROCESS}\n{rest}")).doing(doing)
}

/// Who is behind a process id in a lock file.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// No process, a dead one that nobody has buried, or one that has nothing to do with the cluster: after a
    /// reboot or in a new container, the number went to somebody else.
    Nobody,
    /// A Postgres that a headcount started.
    Orphan,
    /// A Postgres that somebody else started.
    NotOurs,
    /// We may not look.
    Unknown,
}

/// A postmaster works in its cluster's directory: that is the proof for and against. It cannot be had for
/// another user's process without a privilege that containers take from root; then its command line must do.
fn holder(pid: u32, cluster: &Path) -> Holder {
    let process = PathBuf::from(format!("/proc/{pid}"));
    // Gone, or a system that does not show its processes: Postgres can tell.
    let Ok(stat) = fs::read_to_string(process.join("stat")) else {
        return Holder::Unknown;
    };
    // `pid (name) state ...`, where the name may hold anything, parentheses too.
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

/// False when there is no such process any more, or it is not ours to signal.
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
        // Postgres in single-user mode writes its number negated; that is for Postgres to judge.
        assert_eq!(read("-4711\n"), None);
    }

    #[test]
    fn a_living_process_that_works_elsewhere_holds_nothing() {
        let cluster = tempfile::tempdir().unwrap();
        assert_eq!(holder(std::process::id(), cluster.path()), Holder::Nobody);
        assert_eq!(holder(NEVER_A_PROCESS, cluster.path()), Holder::Unknown);
    }
}
