//! Who may do what, how a caller is known, and what an attacker gets.

mod access;
mod bad_rows;
mod cors;
mod costs;
mod database_tls;
mod jwks;
mod limits;
mod public_keys;
mod random_input;
mod resource_exhaustion;
mod revocation;
mod rights;
mod secrets;
mod tls;
mod values;
