//! What presence means, as plain values: no async, no I/O, no clock. Every function takes what it needs and
//! returns what changed.

pub mod address;
pub mod cursor;
pub mod event;
pub mod hint;
pub mod id;
pub mod last_seen;
pub mod lease;
pub mod member;
pub mod notice;
pub mod pattern;
pub mod range;
pub mod resume;
pub mod room_settings;
pub mod roster;
pub mod state;
pub mod timestamp;
pub mod webhook;
