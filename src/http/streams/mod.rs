//! Event streams: those of rooms, of users, and one for diagnosing; and the tickets that open them.

pub mod diagnostics;
pub mod events;
pub mod stream;
pub mod tickets;
pub mod watchlist;
