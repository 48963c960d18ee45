//! Event streams: what frames say, of rooms and of users.

mod diagnostics;
mod large_rooms;
mod lifetime;
mod modes;
pub mod watchlists;
