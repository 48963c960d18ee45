//! What operators do while people are online: restart, upgrade, install; and the files they are given for it.

#![expect(clippy::print_stderr, reason = "what was skipped, and what was measured, is told")]

mod files;
mod health;
mod load;
mod machine;
mod metrics;
mod observability;
mod older_replica;
mod package;
mod restart;
mod unit;
mod upgrade;
