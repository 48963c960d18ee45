//! Several replicas on one database.

mod replicas;
