//! The reasons why the private Postgres does not run, each worded so that a person can act on it.

use std::{fmt, io, path::PathBuf};

/// What went wrong with the private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Postgres is not installed on this machine.
    #[error(
        "Postgres was not found on this machine: install it with `apt-get install postgresql`, or set \
         HEADCOUNT_POSTGRES_BIN to the directory that holds `postgres` and `initdb`"
    )]
    BinariesMissing,

    /// The variable names a wrong directory. This is an error; there is no fallback to another installed Postgres.
    #[error("HEADCOUNT_POSTGRES_BIN names {0}, which does not hold both `postgres` and `initdb`")]
    BinariesNotThere(PathBuf),

    /// Postgres refuses to run as root, and there is no unprivileged user to switch to.
    #[error(
        "Postgres does not run as root, and this machine has neither a `postgres` nor a `nobody` user: \
         start headcount as an ordinary user"
    )]
    NoAccount,

    /// Postgres needs a path below a directory that its user may not enter.
    #[error(
        "{path} cannot be reached by user {account}, as whom Postgres runs when headcount is root: \
         {closed} is closed to that user; {advice}"
    )]
    NotReachable {
        /// The path that Postgres needs.
        path: PathBuf,
        /// The directory above it that the user may not enter.
        closed: PathBuf,
        /// The user as which Postgres would run.
        account: String,
        /// What to do about it.
        advice: &'static str,
    },

    /// Another running headcount holds the lock of this data directory.
    #[error("another headcount is using {0}: stop it, or choose another data directory")]
    InUse(PathBuf),

    /// A Postgres that headcount did not start runs on the cluster. Its owner must stop it.
    #[error(
        "process {pid} is a Postgres that headcount did not start, on the cluster of headcount in {cluster}: \
         stop it first, for example with `kill -INT {pid}`"
    )]
    NotOurs {
        /// Its process id.
        pid: u32,
        /// The cluster it runs on.
        cluster: PathBuf,
    },

    /// The Postgres of a headcount that was killed was told to stop and did not.
    #[error(
        "process {0}, the Postgres of a headcount that was killed, was told to stop and has not stopped yet"
    )]
    OrphanStays(u32),

    /// Postgres found another Postgres on the cluster.
    #[error("another Postgres holds this cluster; {0}")]
    Locked(LogTail),

    /// `initdb` or `postgres` failed, or Postgres ended without being asked to.
    #[error("{what}; {log}")]
    Failed {
        /// The step that failed.
        what: String,
        /// The end of Postgres's log.
        log: LogTail,
    },

    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The error.
        source: io::Error,
    },

    /// Postgres runs, but refused a statement.
    #[error("the embedded Postgres refused: {0}")]
    Sql(#[from] sqlx::Error),
}

/// The end of Postgres's log, and the path of the log file.
#[derive(Debug)]
pub struct LogTail {
    /// The log file.
    pub path: PathBuf,
    /// Its last lines.
    pub lines: String,
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its log {} ends:\n{}", self.path.display(), self.lines)
    }
}

/// Adds to an I/O error what was being done.
pub(super) trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, EmbeddedError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { doing: doing(), source })
    }
}
