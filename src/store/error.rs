//! Failures of a database call, by what a caller can do about them.

use sqlx::error::{BoxDynError, DatabaseError};

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or refuses to serve now. Nothing was done, so a retry is safe.
    #[error("the database is away")]
    Unavailable,
    /// The call was sent and no answer came before the deadline. It may have been carried out.
    #[error("the database did not answer in time")]
    OutcomeUnknown,
    /// As many read as may at once, and as many wait. Nothing was done.
    #[error("too many readers")]
    Overloaded,
    /// Another transaction holds a lock that is needed. Nothing was done.
    #[error("the room is locked by somebody")]
    Busy,
    /// Postgres refused the data of one of the commands. Nothing was done.
    #[error("the database refused the data: {0}")]
    Refused(sqlx::Error),
    /// Either a statement of ours is wrong, and nothing was done; or its answer cannot be decoded, and it was carried
    /// out.
    #[error("database error: {0}")]
    Bug(sqlx::Error),
}

impl StoreError {
    /// A value in the answer is invalid.
    pub(super) fn decoding(error: impl Into<BoxDynError>) -> Self {
        Self::Bug(sqlx::Error::Decode(error.into()))
    }

    /// A text in the answer is unknown to this build.
    pub(super) fn unknown(what: &str, text: &str) -> Self {
        Self::decoding(format!("unknown {what} {text:?}"))
    }

    /// Value of the label `reason` in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Overloaded => "overloaded",
            Self::Busy => "busy",
            Self::Refused(_) => "refused",
            Self::Bug(_) => "bug",
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                from_sqlstate(database.as_ref()).unwrap_or_else(|| refused_or_bug(error))
            }
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => Self::Unavailable,
            sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => Self::Unavailable,
            sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::NotFound => Self::Unavailable,
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => Self::OutcomeUnknown,
            _ => Self::Bug(error),
        }
    }
}

fn from_sqlstate(error: &dyn DatabaseError) -> Option<StoreError> {
    let code = error.code()?;
    match code.as_ref() {
        // lock_not_available, deadlock_detected, serialization_failure
        "55P03" | "40P01" | "40001" => Some(StoreError::Busy),
        // query_canceled: our statement_timeout; HC001: a race with the trim, after the bounds of the log were read
        "57014" | "HC001" => Some(StoreError::Unavailable),
        // object_not_in_prerequisite_state, read_only_sql_transaction: the connection is to a standby
        "55000" | "25006" => Some(StoreError::Unavailable),
        // connections, resources (disk full, too many connections), operator intervention (shutdown), system errors
        code if ["08", "53", "57", "58"].contains(&&code[..2]) => Some(StoreError::Unavailable),
        _ => None,
    }
}

fn refused_or_bug(error: sqlx::Error) -> StoreError {
    let class = error.as_database_error().and_then(|e| e.code()).map(|c| c[..2].to_owned());
    match class.as_deref() {
        Some("22" | "23") => StoreError::Refused(error),
        _ => StoreError::Bug(error),
    }
}
