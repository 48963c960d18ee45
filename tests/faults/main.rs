//! Faults on purpose: real replicas on a real Postgres, a fleet of clients that behave like browsers, something broken
//! in the middle, and a checker that reads everything the clients asked and heard.
//!
//! `make test` runs a part of it, one seed each; `make faults` runs all, with several seeds, and writes
//! `target/faults/summary.json`. `HEADCOUNT_FAULTS_SEED` repeats a run. Traffic stays on this machine.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(clippy::print_stderr, reason = "a run tells its seed")]

mod at_rest;
mod bare_postgres;
mod checker;
mod clients;
mod fleet;
mod postgres;
mod proxy;
mod recorder;
mod recording;
mod replica;
mod run;
mod scenarios;
mod summary;
#[path = "../support/wait.rs"]
mod wait;
mod watchers;
