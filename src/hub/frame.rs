//! Frames of the event stream, and their encoding as Server-Sent Events. Every frame is one line of JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::cursor::Cursor;
use crate::domain::event::Diff;
use crate::domain::id::RoomId;
use crate::domain::member::Member;
use crate::domain::resume::SnapshotReason;
use crate::domain::roster::Roster;
use crate::measure::meters;

/// Members that a frame lists, at most. The rest of a larger room is read page by page.
pub const LISTED_MAX: usize = 1000;

/// The state of a room from which a frame is encoded.
pub struct Seen<'a> {
    /// The room's position.
    pub cursor: &'a Cursor,
    /// The room's members.
    pub roster: &'a Roster,
    /// Members that a frame lists, at most.
    pub list_max: usize,
}

impl Seen<'_> {
    /// Whether a diff of a room too large to list has more changes than a snapshot lists members. Then the
    /// snapshot is sent instead: no frame costs a watcher more than that, however many come and go.
    pub fn is_too_much(&self, diff: &Diff) -> bool {
        let changes = diff.joined.len() + diff.updated.len() + diff.left.len();
        self.roster.len() > self.list_max && changes > self.list_max
    }
}

/// What a watcher receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `snapshot`, then `diff`.
    #[default]
    Diff,
    /// `presence`: the whole list each time.
    List,
    /// `count` only.
    Count,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Diff => "diff",
            Self::List => "list",
            Self::Count => "count",
        }
    }
}

/// `event: snapshot`. Replaces everything known of the room.
#[derive(Serialize, ToSchema)]
pub struct SnapshotFrame<'a> {
    /// The room.
    #[schema(value_type = String)]
    pub room: &'a RoomId,
    /// Position of this frame: a place to resume from.
    #[schema(example = "1f0c2a910.42")]
    pub cursor: String,
    /// All members of the room.
    pub count: usize,
    /// Members by id; of a larger room the first 1000, or as many as is set for the room.
    pub members: Vec<&'a Member>,
    /// Why a snapshot is sent.
    pub reason: SnapshotReason,
}

/// `event: diff`. All changes since the previous frame, coalesced.
#[derive(Serialize, ToSchema)]
pub struct DiffFrame<'a> {
    /// The room.
    #[schema(value_type = String)]
    pub room: &'a RoomId,
    /// Position of this frame: a place to resume from.
    #[schema(example = "1f0c2a910.43")]
    pub cursor: String,
    /// All members of the room.
    pub count: usize,
    /// Members that joined, were updated or left.
    #[serde(flatten)]
    pub diff: &'a Diff,
}

/// `event: presence`. The whole list, each time.
#[derive(Serialize, ToSchema)]
pub struct PresenceFrame<'a> {
    /// The room.
    #[schema(value_type = String)]
    pub room: &'a RoomId,
    /// Position of this frame: a place to resume from.
    #[schema(example = "1f0c2a910.43")]
    pub cursor: String,
    /// All members of the room.
    pub count: usize,
    /// Members by id.
    pub members: Vec<&'a Member>,
}

/// `event: count`. In `mode=count`, and in `mode=list` for rooms too large to list.
#[derive(Serialize, ToSchema)]
pub struct CountFrame<'a> {
    /// The room.
    #[schema(value_type = String)]
    pub room: &'a RoomId,
    /// Position of this frame: a place to resume from.
    #[schema(example = "1f0c2a910.43")]
    pub cursor: String,
    /// All members of the room.
    pub count: usize,
}

/// `event: sync`, every 15 seconds. Also at the start of a stream that missed nothing, has several rooms, or
/// is stale.
#[derive(Serialize, ToSchema)]
pub struct SyncFrame {
    /// Everything up to here has been sent. Many rooms: the cursors joined by commas, in the order of the room keys.
    #[schema(example = "1f0c2a910.43")]
    pub cursor: String,
    /// Whether the last read of the database failed, so that the stream may be out of date.
    pub stale: bool,
}

/// Why a stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ByeReason {
    /// The replica shuts down.
    Drain,
    /// The watcher fell behind what is kept for it.
    Slow,
    /// The token that opened the stream has expired.
    TokenExpired,
    /// The token that opened the stream was revoked.
    Revoked,
    /// The stream reached its greatest age, about 10 minutes by default. Reconnects spread load over
    /// replicas.
    MaxAge,
}

impl ByeReason {
    /// Its name in frames and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Slow => "slow",
            Self::TokenExpired => "token_expired",
            Self::Revoked => "revoked",
            Self::MaxAge => "max_age",
        }
    }
}

/// `event: bye`, then the stream ends.
#[derive(Serialize, ToSchema)]
pub struct ByeFrame {
    /// The reason.
    pub reason: ByeReason,
    /// Reconnect after this many milliseconds; a stream of rooms with `Last-Event-ID`.
    pub retry_ms: u64,
}

/// An encoded frame: `event:` and `data:` lines, then its own `id:` line and the empty line that ends it.
#[derive(Clone, Debug)]
pub struct Wire {
    bytes: Bytes,
    id_at: usize,
}

impl Wire {
    fn new(event: &str, data: &impl Serialize, cursor: &Cursor) -> Self {
        let mut bytes = Vec::with_capacity(256);
        write_event(&mut bytes, event, data);
        let id_at = bytes.len();
        bytes.extend_from_slice(format!("id: {cursor}\n\n").as_bytes());
        Self { bytes: bytes.into(), id_at }
    }

    /// The frame for streams of one room. They share the buffer.
    pub fn whole(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The frame without its `id:` line, for a stream of many rooms, which sends an id of its own.
    pub fn without_id(&self) -> Bytes {
        self.bytes.slice(..self.id_at)
    }
}

/// One change of a room, encoded for each mode that has watchers.
#[derive(Debug)]
pub struct Frame {
    /// Position after this frame.
    pub cursor: Cursor,
    wires: [Option<Wire>; 3],
}

/// The modes in which a room has been watched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes([bool; 3]);

impl Modes {
    /// Adds a mode. None is removed later.
    pub fn add(&mut self, mode: Mode) {
        self.0[mode as usize] = true;
    }

    fn encode(self, mode: Mode, wire: impl FnOnce() -> Wire) -> Option<Wire> {
        let watched = self.0[mode as usize];
        if watched {
            meters().frames_encoded.count(mode.as_str(), 1);
        }
        watched.then(wire)
    }
}

impl Frame {
    /// A change as a `diff`, a `presence` and a `count`.
    pub fn diff(room: &RoomId, seen: &Seen<'_>, diff: &Diff, modes: Modes) -> Self {
        Self::build(room, seen, modes, || missed(room, seen, diff))
    }

    /// A snapshot: everything sent before is void.
    pub fn restart(room: &RoomId, seen: &Seen<'_>, reason: SnapshotReason, modes: Modes) -> Self {
        Self::build(room, seen, modes, || opening(room, seen, Mode::Diff, reason))
    }

    fn build(room: &RoomId, seen: &Seen<'_>, modes: Modes, diff: impl FnOnce() -> Wire) -> Self {
        let plain = |mode| move || opening(room, seen, mode, SnapshotReason::Initial);
        let wires = [
            modes.encode(Mode::Diff, diff),
            modes.encode(Mode::List, plain(Mode::List)),
            modes.encode(Mode::Count, plain(Mode::Count)),
        ];
        Self { cursor: seen.cursor.clone(), wires }
    }

    /// Bytes held, over all modes.
    pub fn size(&self) -> usize {
        self.wires.iter().flatten().map(|wire| wire.bytes.len()).sum()
    }

    /// The frame as encoded for a mode; none if the mode had no watchers.
    pub fn wire(&self, mode: Mode) -> Option<&Wire> {
        self.wires[mode as usize].as_ref()
    }
}

/// A snapshot of a room, as a mode shows it.
pub fn opening(room: &RoomId, seen: &Seen<'_>, mode: Mode, reason: SnapshotReason) -> Wire {
    let Seen { cursor, roster, list_max } = *seen;
    let (text, count) = (cursor.to_string(), roster.len());
    match mode {
        Mode::Diff => {
            let members = roster.members().take(list_max).collect();
            Wire::new("snapshot", &SnapshotFrame { room, cursor: text, count, members, reason }, cursor)
        }
        Mode::List if count <= list_max => {
            let members = roster.members().collect();
            Wire::new("presence", &PresenceFrame { room, cursor: text, count, members }, cursor)
        }
        Mode::List | Mode::Count => Wire::new("count", &CountFrame { room, cursor: text, count }, cursor),
    }
}

/// A `diff` frame: a change, or the replay for a returning watcher of `mode=diff`.
pub fn missed(room: &RoomId, seen: &Seen<'_>, diff: &Diff) -> Wire {
    let (cursor, count) = (seen.cursor, seen.roster.len());
    Wire::new("diff", &DiffFrame { room, cursor: cursor.to_string(), count, diff }, cursor)
}

/// A frame without an `id:` line, for streams that cannot be resumed.
pub fn event(name: &str, data: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    write_event(&mut bytes, name, data);
    bytes.push(b'\n');
    bytes.into()
}

/// A `sync` frame; its id is the stream's.
pub fn sync(cursor: String, stale: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    let id = format!("id: {cursor}\n\n");
    write_event(&mut bytes, "sync", &SyncFrame { cursor, stale });
    bytes.extend_from_slice(id.as_bytes());
    bytes
}

/// A `bye` frame, with the `retry:` line that a browser's own reconnect obeys.
pub fn bye(reason: ByeReason, retry_ms: u64) -> Vec<u8> {
    let mut bytes = format!("retry: {retry_ms}\n").into_bytes();
    write_event(&mut bytes, "bye", &ByeFrame { reason, retry_ms });
    bytes.push(b'\n');
    bytes
}

fn write_event(bytes: &mut Vec<u8>, event: &str, data: &impl Serialize) {
    bytes.extend_from_slice(format!("event: {event}\ndata: ").as_bytes());
    let from = bytes.len();
    serde_json::to_writer(&mut *bytes, data).expect("frames are maps with string keys, written to memory");
    // A member's state is copied as it was read. Postgres writes no line breaks into JSON. Should one be
    // there all the same, it is between two tokens, and would end the frame.
    bytes[from..].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    bytes.push(b'\n');
}
