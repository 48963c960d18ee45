//! Why there is no Postgres, each in words a person can act on.

use std::{fmt, io, path::PathBuf};

/// What went wrong with the private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Nowhere on this machine.
    #[error(
        "Postgres was not found on this machine: install it with `apt-get install postgresql`, or set \
         HEADCOUNT_POSTGRES_BIN to the directory that holds `postgres` and `initdb`"
    )]
    BinariesMissing,

    /// The variable is believed or reported, never overruled by another Postgres that happens to be there.
    #[error("HEADCOUNT_POSTGRES_BIN names {0}, which does not hold both `postgres` and `initdb`")]
    BinariesNotThere(PathBuf),

    /// Postgres refuses to run as root, and there is nobody to become.
    #[error(
        "Postgres does not run as root, and this machine has neither a `postgres` nor a `nobody` user: \
         start headcount as an ordinary user"
    )]
    NoAccount,

    /// Something Postgres needs lies behind a directory that its user may not enter.
    #[error(
        "{path} cannot be reached by user {account}, as whom Postgres runs when headcount is root: \
         {closed} is closed to that user; {advice}"
    )]
    NotReachable {
        /// What Postgres needs.
        path: PathBuf,
        /// The directory on the way to it that stops the user.
        closed: PathBuf,
        /// As whom Postgres would run.
        account: String,
        /// What to do about it.
        advice: &'static str,
    },

    /// Another headcount that is alive has this data directory.
    #[error("another headcount is using {0}: stop it, or choose another data directory")]
    InUse(PathBuf),

    /// Somebody started a Postgres on our cluster by hand. It is theirs to stop.
    #[error(
        "process {pid} is a Postgres that headcount did not start, on the cluster of headcount in {cluster}: \
         stop it first, for example with `kill -INT {pid}`"
    )]
    NotOurs {
        /// The process that was found.
        pid: u32,
        /// The cluster it runs on.
        cluster: PathBuf,
    },

    /// The Postgres of a headcount that was killed was told to stop and did not.
    #[error(
        "process {0}, the Postgres of a headcount that was killed, was told to stop and has not stopped yet"
    )]
    OrphanStays(u32),

    /// Postgres itself saw another one on the cluster.
    #[error("another Postgres holds this cluster; {0}")]
    Locked(LogTail),

    /// `initdb` or `postgres` failed, or Postgres ended without being asked to.
    #[error("{what}; {log}")]
    Failed {
        /// The step that failed.
        what: String,
        /// What Postgres says about it.
        log: LogTail,
    },

    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The refusal.
        source: io::Error,
    },

    /// Postgres runs, but refused a statement.
    #[error("the embedded Postgres refused: {0}")]
    Sql(#[from] sqlx::Error),
}

/// The end of Postgres's log, with where the rest is.
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

/// Says what was being done when the operating system refused.
pub(super) trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, EmbeddedError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { doing: doing(), source })
    }
}
