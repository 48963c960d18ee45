//! What the parts of the hub tell each other: streams the feed, the feed the worker threads.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::frame::{Frame, Mode, Wire};
use crate::domain::cursor::Cursor;
use crate::domain::id::RoomId;
use crate::domain::roster::Roster;

/// What a watcher starts with.
#[derive(Debug)]
pub struct Opening {
    /// What it must be sent first: a snapshot, what it missed, or nothing when it is at the head.
    pub first: Option<Wire>,
    /// Where it is then.
    pub cursor: Cursor,
    /// The number of the room's last frame: frames after it are news to this watcher.
    pub number: u64,
}

/// A roster as the hub has it, served when the database cannot be asked.
#[derive(Debug)]
pub struct Remembered {
    /// Where it was read.
    pub cursor: Cursor,
    /// Who was there.
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
    Unwatch {
        worker: WorkerId,
        room: RoomId,
        watchers: usize,
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
}

pub(super) enum WorkerMessage {
    Frame { room: RoomId, number: u64, frame: Arc<Frame> },
    Drain,
}
