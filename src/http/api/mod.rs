//! One file per call.

pub mod admin;
pub mod health;
pub mod heartbeats;
pub mod history;
pub mod join;
pub mod join_rooms;
pub mod kick;
pub mod leave;
pub mod leave_rooms;
pub mod metrics;
pub mod presence;
pub mod revoke;
pub mod room_settings;
pub mod rooms;
pub mod roster;
pub mod update;
pub mod users;
pub mod webhooks;
