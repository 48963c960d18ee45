//! Event streams: of rooms, of users, and one for diagnostics; and the tickets that authorize them.

pub mod diagnostics;
pub mod events;
pub mod stream;
pub mod tickets;
pub mod watchlist;
