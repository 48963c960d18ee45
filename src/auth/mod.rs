//! Who is asking, and what they may do. Pure, but for the clock that token expiry needs and for where keys come from.

mod jwks;
pub mod keys;
pub mod remote;
pub mod rights;
pub mod ticket;
pub mod token;
mod token_cache;
pub mod verifier;

pub use keys::{Keys, ServerKey};
pub use rights::{Grant, Right, Rights};
pub use token::{Claims, TokenError, TokenKey};
pub use verifier::{KeyError, Sources, Verifier};
