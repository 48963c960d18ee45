//! This replica's rooms and watchers.
//!
//! One task, the [`feed`], caches the roster of every watched room. A hint wakes it, but is never its data:
//! it reads the log after the version it has, coalesces the new events into one frame, encodes that once per
//! mode, and hands it to each worker thread that has watchers of the room. There a [`fan`] keeps a short ring
//! buffer of frames per room, from which every watcher reads at its own pace. A watcher is a position, not a
//! queue.

mod fan;
mod feed;
mod follow;
pub mod frame;
mod gone;
mod handle;
mod messages;
mod pulse;
mod reading;
mod room;
mod room_settings;
mod state;

pub use fan::{Fan, Next, ROUND, WakeSlot, Watcher};
pub use follow::{Following, Places};
pub use handle::Hub;
pub use messages::{Opening, Remembered, Unreadable};
pub use room_settings::RoomSettingsCache;
pub use state::Hearing;
