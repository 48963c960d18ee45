//! What these tests stand on: replicas in this process and in others, and clients, watchers and receivers to talk to them.

pub mod certificates;
pub mod deployment;
pub mod encrypted_postgres;
pub mod process;
pub mod program;
pub mod receiver;
pub mod signing;
pub mod watcher;
