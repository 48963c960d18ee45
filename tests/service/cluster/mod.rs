//! Several replicas on one database.

mod notifications;
mod replicas;
