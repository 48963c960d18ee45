//! The command line: each verb, run as a user runs it.

pub mod doctor;
mod past;
pub mod verbs;
