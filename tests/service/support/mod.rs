//! What these tests stand on: replicas in this process and in others, and clients, watchers and receivers to talk to them.

pub mod certificates;
pub mod deployment;
pub mod process;
pub mod receiver;
pub mod watcher;
