//! How a private Postgres is to be started.

use std::path::PathBuf;

/// What a crash of the machine may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Full,
    /// The whole cluster. For tests: nothing waits for the disk.
    Off,
}

/// How to start a private Postgres.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Made if absent. As root, a new or empty one is given to the user as whom Postgres runs where that user
    /// could not enter it; one with files in it must be open to that user already. So nothing else belongs
    /// in it before the first start.
    pub data_dir: PathBuf,
    /// What a crash of the machine may cost.
    pub durability: Durability,
    /// Connections at most, three of them kept for superusers, which is what everybody is here.
    pub max_connections: u16,
}
