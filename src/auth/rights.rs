//! Rights of a token in each room: an allowlist, so what no entry allows is denied.

use serde::{Deserialize, Serialize};

use crate::domain::id::{RoomId, UserId};
use crate::domain::pattern::{can_match, matches};
use crate::domain::range::KeyRange;

/// A right in a room. Each is separate: watching does not include joining, listing does not include watching.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// See the members.
    Watch,
    /// Become a member.
    Join,
    /// See that the room is occupied, and the number of its members.
    List,
    /// Remove members.
    Admin,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Watch, Self::Join, Self::List, Self::Admin];

    /// Its name in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Join => "join",
            Self::List => "list",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Right {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|right| right.as_str() == text);
        found.ok_or_else(|| format!("{text} is no right: watch, join, list or admin"))
    }
}

/// An entry of the claim `rooms`: a room, or a prefix of rooms ending in `*`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Grant {
    /// The short form, for an ordinary user of a room: [`Right::Watch`] and [`Right::Join`].
    WatchAndJoin(String),
    /// Exactly these rights.
    Some {
        /// A room, or a prefix ending in `*`.
        room: String,
        /// The rights there.
        can: Vec<Right>,
    },
}

impl Grant {
    fn pattern(&self) -> &str {
        match self {
            Self::WatchAndJoin(pattern) | Self::Some { room: pattern, .. } => pattern,
        }
    }

    fn gives(&self, right: Right) -> bool {
        match self {
            Self::WatchAndJoin(_) => matches!(right, Right::Watch | Right::Join),
            Self::Some { can, .. } => can.contains(&right),
        }
    }

    /// Parses a grant from a setting or a command line, where a pattern that can never match is an error.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        if can_match(pattern) {
            Ok(Self::WatchAndJoin(pattern.to_owned()))
        } else {
            Err(format!("{pattern:?} is neither a room nor the beginning of one with `*` after it"))
        }
    }
}

/// The rights of a caller: the claim `rooms`. Without the claim there are none, unless the deployment has a default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, Hash)]
#[serde(transparent)]
pub struct Rights(pub Option<Vec<Grant>>);

impl Rights {
    /// The rights to watch and to join every room.
    pub fn everywhere() -> Self {
        Self(Some(vec![Grant::WatchAndJoin("*".into())]))
    }

    /// These rights, or the deployment's default if the claim is missing.
    #[must_use]
    pub fn or(self, default: &Self) -> Self {
        if self.0.is_some() { self } else { default.clone() }
    }

    /// The same rooms, with exactly these rights.
    #[must_use]
    pub fn limited_to(self, can: &[Right]) -> Self {
        if *can == [Right::Watch, Right::Join] {
            return self; // the short form says the same
        }
        let limited = |grant: Grant| Grant::Some { room: grant.pattern().to_owned(), can: can.to_vec() };
        Self(self.0.map(|grants| grants.into_iter().map(limited).collect()))
    }

    /// Whether the right is allowed in the room.
    pub fn allow(&self, room: &RoomId, right: Right) -> bool {
        self.grants().iter().any(|grant| grant.gives(right) && matches(grant.pattern(), room))
    }

    /// The rooms in which the right is allowed and whose key begins with `prefix`, as ranges that do not overlap.
    pub fn ranges(&self, right: Right, prefix: &str) -> Vec<KeyRange> {
        // Patterns that can never match are left out: they may contain text that is no valid parameter of a query.
        let given = self.grants().iter().filter(|grant| grant.gives(right) && can_match(grant.pattern()));
        let ranges = given.filter_map(|grant| match grant.pattern().strip_suffix('*') {
            Some(begin) if begin.starts_with(prefix) => Some(KeyRange::beginning_with(begin)),
            Some(begin) if prefix.starts_with(begin) => Some(KeyRange::beginning_with(prefix)),
            None if grant.pattern().starts_with(prefix) => Some(KeyRange::only(grant.pattern())),
            _ => None,
        });
        KeyRange::without_overlap(ranges.collect())
    }

    /// Whether every room may be watched, whatever it is.
    pub fn everywhere_watched(&self) -> bool {
        self.grants().iter().any(|grant| grant.gives(Right::Watch) && grant.pattern() == "*")
    }

    /// Whether the right is allowed in any room.
    pub fn anywhere(&self, right: Right) -> bool {
        self.grants().iter().any(|grant| grant.gives(right))
    }

    fn grants(&self) -> &[Grant] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// The claim `users`: users whose profile and `last_seen` a token may see wherever they are. Ids, and beginnings of ids
/// with a `*` after them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acquaintances(pub Vec<String>);

impl Acquaintances {
    /// Whether a user is among them.
    pub fn hold(&self, user: &UserId) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(begin) => user.as_str().starts_with(begin),
            None => user.as_str() == pattern,
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rights(claim: &str) -> Rights {
        serde_json::from_str(claim).unwrap()
    }

    fn allows(claim: &str, room: &str, right: Right) -> bool {
        rights(claim).allow(&RoomId::parse(room).unwrap(), right)
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
    fn each_right_is_given_by_its_own_name_only_and_the_short_form_gives_two() {
        for given in Right::ALL {
            let claim = format!(r#"[{{"room": "a*", "can": ["{}"]}}]"#, given.as_str());
            for right in Right::ALL {
                assert_eq!(allows(&claim, "ab", right), given == right, "{given:?} {right:?}");
            }
            let usual = matches!(given, Right::Watch | Right::Join);
            assert_eq!(allows(r#"["*"]"#, "ab", given), usual, "{given:?}");
        }
    }

    #[test]
    fn what_nothing_allows_is_denied() {
        for claim in ["[]", "null"] {
            for right in Right::ALL {
                assert!(!allows(claim, "ab", right));
                assert!(!rights(claim).anywhere(right));
            }
        }
        let default = rights(r#"["lobby"]"#);
        assert_eq!(rights("null").or(&default), default);
        assert_eq!(rights("[]").or(&default), rights("[]"));
    }

    #[test]
    fn a_pattern_of_a_setting_must_be_able_to_match() {
        for good in ["*", "lobby", "team:*", &"r".repeat(128)] {
            assert!(Grant::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "t*m", "**", "é*", &"r".repeat(129)] {
            assert!(Grant::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn ranges_hold_exactly_the_rooms_that_are_allowed_and_begin_so(
            patterns in proptest::collection::vec("[ab]{0,3}\\*?", 0..5), prefix in "[ab]{0,2}", room in "[ab]{1,4}",
        ) {
            let can = vec![Right::List];
            let grants = patterns.into_iter().map(|room| Grant::Some { room, can: can.clone() }).collect();
            let rights = Rights(Some(grants));
            let ranges = rights.ranges(Right::List, &prefix);
            let within = ranges.iter().filter(|range| range.holds(&room)).count();
            let wanted = rights.allow(&RoomId::parse(&room).unwrap(), Right::List) && room.starts_with(&prefix);
            prop_assert_eq!(within, usize::from(wanted), "{:?}", ranges);
        }
    }
}
