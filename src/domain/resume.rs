//! The resume plan: what a watcher that comes with a cursor must be sent first.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cursor::Cursor;

/// Why a `snapshot` was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotReason {
    /// The watcher came without a cursor.
    Initial,
    /// The cursor, or the stream so far, belongs to another history: a new database, a restore, a failover.
    Epoch,
    /// The log no longer reaches back to the cursor.
    TooOld,
    /// The watcher fell behind what is kept for it.
    Slow,
    /// The room is too large to list, and more changed at once than a frame lists.
    TooMuch,
}

/// What to send first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// A snapshot: the whole roster.
    Snapshot(SnapshotReason),
    /// A replay: exactly the events after the cursor.
    Replay,
    /// Nothing: the watcher is up to date.
    Nothing,
}

/// Decides from the watcher's cursor and the room's head. Whether the log still holds the events of a replay
/// is found when they are read.
pub fn plan(last: Option<&Cursor>, head: &Cursor) -> Plan {
    match last {
        None => Plan::Snapshot(SnapshotReason::Initial),
        Some(last) if last.epoch != head.epoch || last.version > head.version => {
            Plan::Snapshot(SnapshotReason::Epoch)
        }
        Some(last) if last.version == head.version => Plan::Nothing,
        Some(_) => Plan::Replay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_another_history_or_from_the_future_gets_a_snapshot() {
        let head: Cursor = "aa.5".parse().unwrap();
        let of = |text: &str| plan(Some(&text.parse().unwrap()), &head);
        assert_eq!(plan(None, &head), Plan::Snapshot(SnapshotReason::Initial));
        assert_eq!(of("ab.3"), Plan::Snapshot(SnapshotReason::Epoch));
        assert_eq!(of("aa.6"), Plan::Snapshot(SnapshotReason::Epoch));
        assert_eq!(of("aa.5"), Plan::Nothing);
        assert_eq!(of("aa.4"), Plan::Replay);
        assert_eq!(of("aa.0"), Plan::Replay);
    }
}
