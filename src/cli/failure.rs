//! Why a verb ends before it is done.

use super::refusal::CallError;

/// Why a verb ended before it was done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is not valid.
    #[error("{0}")]
    Usage(String),
    /// It did not work. The text says what to do.
    #[error("{0}")]
    Failed(String),
    /// The service did not give what was asked for.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nobody reads what is printed.
    #[error("standard output is closed")]
    Closed,
}

impl Failure {
    /// From an error whose text is sufficient.
    pub(super) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// From an error of writing to standard output.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("standard output: {error}")),
        }
    }
}
