//! What operators do while people are online: restart and upgrade.

#![expect(clippy::print_stderr, reason = "what was skipped, and what was measured, is told")]

mod load;
mod restart;
mod sent;
mod upgrade;
