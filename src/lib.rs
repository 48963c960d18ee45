//! headcount: who is here, right now.
//!
//! A presence service. Clients say "I am here" over plain HTTP; everyone who watches a room sees, within
//! milliseconds, who is in it. Postgres is the only other moving part.
//!
//! The layers, each knowing only those below it (`tests/tidy.rs` enforces the arrows):
//!
//! ```text
//!    main, app            compose: start order, stop order
//!       |
//!      http               routes, who may do what, error codes, the event stream; no SQL
//!       |      \
//!    commands   hub       commands: one verb each, through the batching writer; hub: this replica's rooms and watchers
//!       |      /
//!      store              the only SQL outside migrations/, one file per subject; embedded Postgres
//!       |
//!     domain              no async, no I/O, no clock
//! ```
//!
//! `tasks` (sweeper, trimmer, idle, listener, gauges, webhooks) sit beside `http`; `auth` is beside `domain`, and so are
//! `webhooks`, which signs and sends messages, and `measure`, which names every metric and which most may use. `logs`
//! starts logs and traces. `cli` is beside `app`: the verbs that ask a running service by HTTP, as any client does, and
//! `doctor`.
//!
//! # Where the design is refined
//!
//! - **Versions go on across epochs.** A new epoch says "what you know may be void"; it does not restart the
//!   version, so a room's log is one contiguous sequence whatever happened to the database.
//! - **Users are locked before rooms.** A profile change must reach every room of the user; locking the user first
//!   keeps the set of those rooms from growing meanwhile.
//! - **Departures.** A table of who left what remembers seqs and owners after a session is gone, as long as the log.

pub mod app;
pub mod auth;
pub mod cli;
pub mod commands;
pub mod domain;
pub mod http;
pub mod hub;
pub mod logs;
pub mod measure;
pub mod settings;
pub mod store;
pub mod systemd;
pub mod tasks;
pub mod webhooks;
