//! Patterns of rooms, in tokens and in settings: a room key, or a prefix of room keys followed by `*`.

use super::id::RoomId;

/// Whether any room can match. A `*` is a wildcard only at the end.
pub fn can_match(pattern: &str) -> bool {
    pattern == "*" || RoomId::parse(pattern.strip_suffix('*').unwrap_or(pattern)).is_ok()
}

/// Whether this room matches.
pub fn matches(pattern: &str, room: &RoomId) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => room.as_str().starts_with(beginning),
        None => room.as_str() == pattern,
    }
}
