//! The calls, one file a resource: what they take, what they answer, what they refuse.

mod bad_input;
mod document;
mod heartbeats;
mod invisible;
mod kick;
mod many_rooms;
mod overview;
mod past;
mod profiles;
pub mod room_settings;
mod tickets;
mod update;
mod webhooks;
