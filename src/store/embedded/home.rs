//! The files of one embedded Postgres, all of them in the data directory:
//!
//! ```text
//! headcount.lock   locked (flock) by the headcount that uses the directory; the kernel unlocks it when that dies
//! cluster/         Postgres's own; made as cluster.new-PID and renamed, so it is complete or absent
//! run/             the socket, 0700: a process that can enter is trusted
//! postgres.log     of this start; postgres.log.1 is of the start before, older ones are deleted
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    account::{Account, private},
    error::{Doing, EmbeddedError, LogTail},
    sockets::SocketDir,
};

/// Enough for the reason of a failed start, little enough for a terminal.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: i64 = 4096;

/// The data directory, locked for as long as this value lives.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) root: PathBuf,
    pub(super) account: Option<Account>,
    pub(super) sockets: SocketDir,
    _lock: File,
}

impl Home {
    /// The name of the cluster in a data directory.
    pub(super) const CLUSTER: &str = "cluster";

    /// Makes the directories that are missing. Waits until `patience` for another headcount to release the lock:
    /// after a restart the old one may still be draining.
    pub(super) async fn open(
        data_dir: &Path,
        account: Option<Account>,
        patience: Instant,
    ) -> Result<Self, EmbeddedError> {
        let root = made(data_dir).doing(|| format!("making {}", data_dir.display()))?;
        hand_over(&root, account.as_ref())?;
        let lock = lock(&root, patience).await?;
        let sockets = SocketDir::make(&root, account.as_ref())
            .doing(|| format!("making the socket directory of {}", root.display()))?;
        let home = Self { root, account, sockets, _lock: lock };
        // Absent at the first start.
        let _ = fs::rename(home.log_path(), home.root.join("postgres.log.1"));
        Ok(home)
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.root.join(Self::CLUSTER)
    }

    /// A new, private directory that Postgres may write in.
    pub(super) fn make_private(&self, dir: &Path) -> Result<(), EmbeddedError> {
        private(dir, self.account.as_ref()).doing(|| format!("making {}", dir.display()))
    }

    fn log_path(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    /// The log, for Postgres to append to.
    pub(super) fn log(&self) -> Result<File, EmbeddedError> {
        let path = self.log_path();
        (OpenOptions::new().create(true).append(true).mode(0o600).open(&path))
            .doing(|| format!("opening {}", path.display()))
    }

    /// The last lines of this start's log.
    pub(super) fn log_tail(&self) -> LogTail {
        let path = self.log_path();
        let end = end_of(&path).unwrap_or_default();
        let lines: Vec<_> = end.lines().collect();
        let last = lines.len().saturating_sub(TAIL_LINES);
        LogTail { path, lines: lines[last..].join("\n") }
    }
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let back = TAIL_BYTES.min(i64::try_from(file.metadata()?.len()).unwrap_or(TAIL_BYTES));
    file.seek(SeekFrom::End(-back))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

/// Makes only the last directory private: if headcount is root, closed parents would keep Postgres out of it.
fn made(data_dir: &Path) -> io::Result<PathBuf> {
    if !data_dir.is_dir() {
        if let Some(parent) = data_dir.parent() {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(0o700).create(data_dir)?;
    }
    fs::canonicalize(data_dir)
}

/// Gives an empty directory to the user as which Postgres runs. A directory with files in it keeps its owner:
/// `--data-dir /root` must not give away root's home.
fn hand_over(root: &Path, account: Option<&Account>) -> Result<(), EmbeddedError> {
    let Some(account) = account else {
        return Ok(());
    };
    let doing = || format!("giving {} to user {}", root.display(), account.name);
    let enters = account.can_enter(&fs::metadata(root).doing(doing)?);
    if !enters && fs::read_dir(root).doing(doing)?.next().is_none() {
        chown(root, Some(account.uid), Some(account.gid)).doing(doing)?;
    }
    let Some(closed) = account.closed_on_the_way(root) else {
        return Ok(());
    };
    Err(EmbeddedError::NotReachable {
        path: root.to_owned(),
        closed,
        account: account.name.clone(),
        advice: "choose a data directory elsewhere (the one chosen without --data-dir can be reached)",
    })
}

async fn lock(root: &Path, patience: Instant) -> Result<File, EmbeddedError> {
    let path = root.join("headcount.lock");
    let doing = || format!("locking {}", path.display());
    let mut options = OpenOptions::new();
    let lock = options.create(true).truncate(false).write(true).mode(0o600).open(&path).doing(doing)?;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(error).doing(doing),
            Err(TryLockError::WouldBlock) if Instant::now() >= patience => {
                return Err(EmbeddedError::InUse(root.to_owned()));
            }
            Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(50)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_headcount_in_the_directory_is_refused_until_the_first_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Home::open(dir.path(), None, Instant::now());
        let first = open().await.unwrap();
        assert!(matches!(open().await, Err(EmbeddedError::InUse(_))));
        drop(first);
        open().await.unwrap();
    }

    #[tokio::test]
    async fn only_the_last_lines_of_a_long_log_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path(), None, Instant::now()).await.unwrap();
        assert_eq!(home.log_tail().lines, "");
        let log: String = (0..1000).map(|line| format!("line {line} of the log\n")).collect();
        fs::write(home.log_path(), log).unwrap();
        let tail = home.log_tail().lines;
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("line 999 of the log"), "{tail}");
    }
}
