//! Authentication and rights: the identity of a caller, and what it may do. No I/O, except reading the clock for token
//! expiry and loading keys.

pub mod barred;
pub mod claim_rules;
mod jwks;
pub mod keys;
pub mod remote;
pub mod rights;
pub mod ticket;
pub mod token;
mod token_cache;
pub mod verifier;

pub use barred::{Barred, Bars};
pub use claim_rules::ClaimRules;
pub use keys::{Keys, ServerKey};
pub use rights::{Acquaintances, Grant, Right, Rights};
pub use token::{Claims, TokenError, TokenKey};
pub use verifier::{KeyError, Sources, Verifier};
