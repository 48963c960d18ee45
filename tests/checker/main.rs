//! The checker of the fault tests is checked: a lawful recording is clean, and whatever is made wrong in it is found.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../faults/checker/mod.rs"]
mod checker;
#[path = "../faults/recording.rs"]
mod recording;

mod bugs;
mod database;
mod lawful;
mod mutations;
mod simulator;
mod tabs;
mod watcher;
