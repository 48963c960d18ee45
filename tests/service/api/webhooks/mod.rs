//! Webhooks: setting them up, what they deliver, and how a receiver checks a message.

pub mod delivery;
mod recipe;
mod setup;
