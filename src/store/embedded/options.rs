//! Options for starting a private Postgres.

use std::path::PathBuf;

/// How much a crash of the machine may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Full,
    /// The whole cluster. For tests, which then do not wait for the disk.
    Off,
}

/// Options for starting a private Postgres.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Made if absent. If headcount is root and the user as which Postgres runs cannot enter the directory, a new or
    /// empty one is given to that user. One with files in it must be open to that user already, so keep it empty
    /// before the first start.
    pub data_dir: PathBuf,
    /// How much a crash of the machine may lose.
    pub durability: Durability,
    /// `max_connections`. Postgres reserves three of them for superusers, which all connections here are.
    pub max_connections: u16,
}
