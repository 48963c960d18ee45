//! Messages within the hub: from streams to the feed, and from the feed to worker threads.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::frame::{Frame, Mode, Wire};
use crate::domain::cursor::Cursor;
use crate::domain::id::RoomId;
use crate::domain::roster::Roster;

/// What a watcher starts with.
#[derive(Debug)]
pub struct Opening {
    /// The first frame: a snapshot, a replay of what it missed, or none if it is up to date.
    pub first: Option<Wire>,
    /// Its position after that frame.
    pub cursor: Cursor,
    /// The number of the room's last frame. Later frames are new to this watcher.
    pub number: u64,
}

/// A cached roster, served while the database is away.
#[derive(Debug)]
pub struct Remembered {
    /// The position at which it was read.
    pub cursor: Cursor,
    /// The members at that position.
    pub roster: Roster,
}

/// The room cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room cannot be read now")]
pub struct Unreadable;

pub(super) type WorkerId = usize;

pub(super) enum FeedRequest {
    Attach {
        worker: WorkerId,
        inbox: mpsc::Sender<WorkerMessage>,
    },
    Watch {
        worker: WorkerId,
        room: RoomId,
        mode: Mode,
        last: Option<Cursor>,
        reply: oneshot::Sender<Opening>,
    },
    /// How many watchers of each room are gone.
    Unwatch {
        worker: WorkerId,
        rooms: Vec<(RoomId, usize)>,
    },
    Remembered {
        room: RoomId,
        reply: oneshot::Sender<Remembered>,
    },
    Positions {
        most: usize,
        reply: oneshot::Sender<Vec<(RoomId, Cursor)>>,
    },
    Drain,
    Rouse,
}

pub(super) enum WorkerMessage {
    Frame {
        room: RoomId,
        number: u64,
        frame: Arc<Frame>,
    },
    /// Whether the room cannot be read, so that what was sent of it may be out of date.
    Stale {
        room: RoomId,
        stale: bool,
    },
    Drain,
    Rouse,
}
