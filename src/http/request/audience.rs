//! Whether a listener serves operators.

use super::problem::{Code, Problem};

/// Whether this listener may tell what only operators should know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// No other listener does: everybody may ask.
    Everybody,
    /// Operators have a listener of their own, and this is not it.
    Clients,
}

impl Audience {
    /// Elsewhere it looks as if this did not exist.
    pub fn must_be_operators(self) -> Result<(), Problem> {
        if self == Self::Everybody { Ok(()) } else { Err(Code::NotFound.into()) }
    }
}
