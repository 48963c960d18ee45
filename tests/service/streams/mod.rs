//! Event streams: what frames say, of rooms and of users.

mod frames;
mod large_rooms;
mod watchlists;
