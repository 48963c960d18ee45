//! The promises, through HTTP against a real Postgres. Each test is named after what it claims and fails when the
//! guard of that claim is taken out.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod bad_input;
mod between;
mod certificates;
mod contract;
mod database_tls;
mod deployment;
mod doctor;
mod heartbeats;
mod history;
mod invisible;
mod jwks;
mod keys;
mod large;
mod limits;
mod members;
mod metrics;
mod observed;
mod operate;
mod outside;
mod overview;
mod processes;
mod profiles;
mod receiver;
mod replicas;
mod rights;
mod room_settings;
mod secrets;
mod streams;
mod sweeping;
mod tickets;
mod tls;
mod verbs;
mod verbs_past;
mod watcher;
mod watchlists;
mod webhook_recipe;
mod webhook_setup;
mod webhooks;
mod who_may;
