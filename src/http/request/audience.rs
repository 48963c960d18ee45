//! Whether a listener serves operators.

use super::problem::{Code, Problem};

/// Whether a listener may serve what is meant for operators only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// It may: it is the only listener, or the operators' own.
    Everybody,
    /// Operators have a listener of their own, and this is not it.
    Clients,
}

impl Audience {
    /// Refuses clients where operators have a listener of their own: with 404, as if the path did not exist.
    pub fn must_be_operators(self) -> Result<(), Problem> {
        if self == Self::Everybody { Ok(()) } else { Err(Code::NotFound.into()) }
    }
}
