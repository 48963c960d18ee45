//! The promises, through HTTP against a real Postgres. Each test is named after what it claims and fails when the
//! guard of that claim is taken out.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../support/mod.rs"]
mod database;
mod support;
#[path = "../support/wait.rs"]
mod wait;

mod api;
mod cli;
mod cluster;
mod ops;
mod promises;
mod security;
mod streams;
