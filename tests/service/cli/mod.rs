//! The command line: each verb, run as a user runs it.

mod doctor;
mod past;
mod serve;
mod verbs;
