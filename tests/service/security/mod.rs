//! Who may do what, how a caller is known, and what an attacker gets.

pub mod access;
pub mod database_tls;
mod jwks;
mod limits;
pub mod public_keys;
mod random_input;
mod resource_exhaustion;
mod rights;
mod secrets;
mod tls;
