//! Hints that rooms have changed, and the notifications that carry them: never data. Any client of the database can
//! send a notification, so everything that does not parse is skipped; and any can listen, so rooms are named by
//! their marks: a keyed hash, which tells nothing to a listener who may not read the key.

use std::fmt;

use sha2::{Digest, Sha256};

use super::id::RoomId;

/// A room that may have changed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Hint {
    /// The room, as this replica's own commits name it.
    Room(RoomId),
    /// The room that has this mark, as notifications name it.
    Mark(Mark),
}

/// The mark of a room: the first 64 bits of SHA-256 of the key and the room, as `headcount.mark_in` computes it. Two rooms
/// with one mark would cost a read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mark(pub i64);

/// The key of marks, of one database.
#[derive(Clone, PartialEq, Eq)]
pub struct MarkKey(Vec<u8>);

impl MarkKey {
    /// A key as the database holds it.
    pub fn new(key: Vec<u8>) -> Self {
        Self(key)
    }

    /// The mark of a room.
    pub fn mark(&self, room: &RoomId) -> Mark {
        let hash = Sha256::new().chain_update(&self.0).chain_update(room.as_str()).finalize();
        Mark(hash.iter().take(8).fold(0, |mark, byte| mark << 8 | i64::from(*byte)))
    }
}

impl fmt::Debug for MarkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MarkKey(..)")
    }
}

/// Reads marks separated by spaces.
pub fn parse(payload: &str) -> impl Iterator<Item = Mark> + '_ {
    payload.split(' ').filter_map(|mark| mark.parse().ok().map(Mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn marks_are_read_and_garbage_is_skipped() {
        let marks: Vec<i64> =
            parse("7 nonsense lobby:1 -12  99999999999999999999").map(|mark| mark.0).collect();
        assert_eq!(marks, [7, -12]);
    }

    #[test]
    fn a_mark_depends_on_the_room_and_on_the_key() {
        let (lobby, other) = (RoomId::parse("lobby").unwrap(), RoomId::parse("lobbx").unwrap());
        let (key, another) = (MarkKey::new(vec![1; 32]), MarkKey::new(vec![2; 32]));
        assert_eq!(key.mark(&lobby), key.mark(&lobby));
        assert_ne!(key.mark(&lobby), key.mark(&other));
        assert_ne!(key.mark(&lobby), another.mark(&lobby));
        assert_eq!(format!("{key:?}"), "MarkKey(..)");
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in ".*") {
            parse(&payload).count();
        }
    }
}
