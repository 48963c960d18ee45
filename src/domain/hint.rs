//! Notification payloads: hints that a room has changed, never data. Any client of the database can send one,
//! so everything that does not parse is skipped.

use super::id::RoomId;

/// A room, and the version that it is said to have reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hint {
    /// The room.
    pub room: RoomId,
    /// The version. It only says that a read is worth while.
    pub version: i64,
}

/// Reads `room:version` pairs separated by spaces. A room may contain colons; a version cannot.
pub fn parse(payload: &str) -> impl Iterator<Item = Hint> + '_ {
    payload.split(' ').filter_map(|pair| {
        let (room, version) = pair.rsplit_once(':')?;
        Some(Hint { room: RoomId::parse(room).ok()?, version: version.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_read_and_garbage_is_skipped() {
        let hints: Vec<Hint> = parse("a:b:7 nonsense :3 lobby:x é:1 lobby:12").collect();
        assert_eq!(
            hints.iter().map(|h| (h.room.as_str(), h.version)).collect::<Vec<_>>(),
            [("a:b", 7), ("lobby", 12)]
        );
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in ".*") {
            parse(&payload).count();
        }
    }
}
