//! One round of reads of the feed: whole rosters, and the tails of logs. A room that cannot be read costs no other.

use std::collections::HashMap;

use super::room::WatchedRoom;
use crate::domain::cursor::Cursor;
use crate::domain::id::RoomId;
use crate::domain::roster::Roster;
use crate::store::events::Tail;
use crate::store::{Store, StoreError};

/// Whole rosters, with their cursors.
pub(super) type Whole = Vec<(RoomId, (Cursor, Roster))>;

/// The result of one round of reads.
pub(super) struct Read {
    /// Rooms read for the first time.
    pub(super) first: Whole,
    /// Rooms reread whole, because the log no longer reaches back to the cached version.
    pub(super) anew: Whole,
    /// The tail of each room's log, with the version that it follows.
    pub(super) tails: Vec<(RoomId, i64, Tail)>,
    pub(super) replays: HashMap<RoomId, Vec<(i64, Tail)>>,
    /// Rooms with a row that this build does not understand.
    pub(super) unreadable: HashMap<RoomId, StoreError>,
}

/// Reads rooms that are not cached whole, then the tails of all rooms that are due, with the replays for
/// returning watchers.
pub(super) async fn read(
    store: &Store,
    rooms: &HashMap<RoomId, WatchedRoom>,
    due: &[RoomId],
) -> Result<Read, StoreError> {
    let unknown = due.iter().filter(|id| rooms[*id].known.is_none()).cloned().collect();
    let (first, mut unreadable) = load(store, unknown).await?;
    let loaded = first.iter().map(|(id, (cursor, _))| (id, cursor));
    let known = due.iter().filter_map(|id| Some((id, &rooms[id].known.as_ref()?.cursor)));
    let heads: Vec<(&RoomId, &Cursor)> = known.chain(loaded).collect();
    let mut positions: Vec<(RoomId, Cursor)> =
        heads.iter().map(|(id, cursor)| ((*id).clone(), (*cursor).clone())).collect();
    for (id, head) in &heads {
        positions.extend(rooms[*id].replays(head).into_iter().map(|cursor| ((*id).clone(), cursor)));
    }
    let (mut tails, mut broken, mut misread) = (Vec::new(), Vec::new(), Vec::new());
    let mut replays = HashMap::<RoomId, Vec<(i64, Tail)>>::new();
    for (index, tail) in store.tails(&positions).await? {
        let (id, cursor) = &positions[index];
        match tail {
            Ok(tail) if index >= heads.len() => {
                replays.entry(id.clone()).or_default().push((cursor.version, tail));
            }
            Ok(tail) => {
                broken.extend((!tail.complete).then(|| id.clone()));
                tails.push((id.clone(), cursor.version, tail));
            }
            // An event that is not understood: the roster may be. For a returning watcher, too.
            Err(_) if index >= heads.len() => {}
            Err(error) => {
                broken.push(id.clone());
                misread.push((id.clone(), error));
            }
        }
    }
    let (anew, failed) = load(store, broken).await?;
    for (room, error) in misread.iter().filter(|(room, _)| !failed.contains_key(room)) {
        tracing::warn!(%room, %error, "the log of a room cannot be read; its watchers get the roster instead");
    }
    unreadable.extend(failed);
    Ok(Read { first, anew, tails, replays, unreadable })
}

/// Reads rooms whole. Those that cannot be read are apart.
async fn load(store: &Store, rooms: Vec<RoomId>) -> Result<(Whole, HashMap<RoomId, StoreError>), StoreError> {
    let (mut whole, mut failed) = (Vec::new(), HashMap::new());
    if rooms.is_empty() {
        return Ok((whole, failed));
    }
    let rosters = store.rosters(&rooms).await?;
    for (room, roster) in rooms.into_iter().zip(rosters) {
        match roster {
            Ok(roster) => whole.push((room, roster)),
            Err(error) => drop(failed.insert(room, error)),
        }
    }
    Ok((whole, failed))
}
