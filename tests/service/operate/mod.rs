//! What operators do while people are online: restart, upgrade, install; and the files they are given for it.

#![expect(clippy::print_stderr, reason = "what was skipped, and what was measured, is told")]

mod files;
mod load;
mod machine;
mod package;
mod restart;
mod sent;
mod unit;
mod upgrade;
