//! How a command can fail, as far as its caller can act on it.

use crate::store::StoreError;

/// Why a command failed, as far as its caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Back-pressure: the queue is full. Nothing was done.
    #[error("overloaded")]
    Overloaded,
    /// The database is away. Nothing was done.
    #[error("the database is away")]
    Unavailable,
    /// The database did not answer in time. The command may have been committed.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// Another transaction holds the lock of the room, or of the user. Nothing was done.
    #[error("the room is busy")]
    Busy,
    /// The user is in as many rooms as the limit allows. Nothing was done.
    #[error("too many rooms")]
    TooManyRooms,
    /// The user has as many sessions as the limit allows. Nothing was done.
    #[error("too many sessions")]
    TooManySessions,
    /// The room has as many members as its limit allows. Nothing was done.
    #[error("the room is full")]
    RoomFull,
    /// The user's tokens were revoked after this caller's was issued. Nothing was done.
    #[error("the token was revoked")]
    Revoked,
    /// The session is unknown, another user's, or not in that room. Nothing was done.
    #[error("no such session in that room")]
    NoSession,
    /// The database refused the data. Nothing was done.
    #[error("refused by the database")]
    Refused,
    /// A bug of ours.
    #[error("internal error")]
    Internal,
}

impl From<&StoreError> for CommandError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable => Self::Unavailable,
            StoreError::OutcomeUnknown => Self::OutcomeUnknown,
            StoreError::Overloaded => Self::Overloaded,
            StoreError::Busy => Self::Busy,
            StoreError::Refused(_) => Self::Refused,
            StoreError::Bug(_) => Self::Internal,
        }
    }
}
