//! What a token allows in which rooms.

use serde::{Deserialize, Serialize};

use crate::domain::id::RoomId;

/// Something one may do in a room. Watching is not joining, joining is not watching.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// See who is there.
    Watch,
    /// Be there.
    Join,
}

/// An entry of the claim `rooms`: a room, or a prefix of rooms ending in `*`, for all rights or for some.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Grant {
    /// All rights.
    All(String),
    /// These rights.
    Some {
        /// A room, or a prefix ending in `*`.
        room: String,
        /// What one may do there.
        can: Vec<Right>,
    },
}

impl Grant {
    fn allows(&self, room: &RoomId, right: Right) -> bool {
        match self {
            Self::All(pattern) => matches(pattern, room),
            Self::Some { room: pattern, can } => can.contains(&right) && matches(pattern, room),
        }
    }
}

/// What a caller may do. Without a list nothing limits the rooms; with one, what no entry allows is denied.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(pub Option<Vec<Grant>>);

impl Rights {
    /// Whether this is allowed in that room.
    pub fn allow(&self, room: &RoomId, right: Right) -> bool {
        self.0.as_ref().is_none_or(|grants| grants.iter().any(|grant| grant.allows(room, right)))
    }
}

fn matches(pattern: &str, room: &RoomId) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => room.as_str().starts_with(prefix),
        None => room.as_str() == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(claim: &str, room: &str, right: Right) -> bool {
        let rights: Rights = serde_json::from_str(claim).unwrap();
        rights.allow(&RoomId::parse(room).unwrap(), right)
    }

    #[test]
    fn patterns_are_anchored_and_a_star_counts_only_at_the_end() {
        assert!(allows(r#"["lobby"]"#, "lobby", Right::Join));
        assert!(!allows(r#"["lobby"]"#, "lobby2", Right::Join));
        assert!(!allows(r#"["lobby"]"#, "a-lobby", Right::Join));
        assert!(allows(r#"["team:*"]"#, "team:1", Right::Watch));
        assert!(!allows(r#"["t*m:1"]"#, "team:1", Right::Watch));
        assert!(allows(r#"["*"]"#, "anything", Right::Watch));
    }

    #[test]
    fn rights_are_separate_and_an_empty_list_denies_all() {
        let watch = r#"[{"room": "a*", "can": ["watch"]}]"#;
        assert!(allows(watch, "ab", Right::Watch));
        assert!(!allows(watch, "ab", Right::Join));
        assert!(!allows("[]", "ab", Right::Watch));
        assert!(allows("null", "ab", Right::Join));
    }
}
