//! Settings of rooms, by pattern. For each setting the most specific pattern that sets it wins: the room
//! itself, then the longest prefix. A setting that no pattern sets has the deployment's default.
//!
//! Bounded: at most [`PATTERNS_MAX`] patterns, because every room is compared with all of them.

use std::time::Duration;

use super::id::RoomId;
use super::pattern;

/// Patterns, at most. The database refuses more.
pub const PATTERNS_MAX: usize = 100;

/// The settings of a room. None means the deployment's default, or one by the room's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoomSettings {
    /// Lease of a visible session. A session has the shortest of its rooms.
    pub lease: Option<Duration>,
    /// Lease of a hidden session, likewise.
    pub lease_hidden: Option<Duration>,
    /// Rate limit of frames: the least time between two.
    pub spacing: Option<Duration>,
    /// Members that a frame lists, at most.
    pub list_max: Option<usize>,
    /// Members of the room, at most.
    pub members_max: Option<u32>,
}

impl RoomSettings {
    /// These settings; those that are unset are taken from the other.
    #[must_use]
    fn or(self, other: Self) -> Self {
        Self {
            lease: self.lease.or(other.lease),
            lease_hidden: self.lease_hidden.or(other.lease_hidden),
            spacing: self.spacing.or(other.spacing),
            list_max: self.list_max.or(other.list_max),
            members_max: self.members_max.or(other.members_max),
        }
    }
}

/// All patterns, the most specific first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Patterns(Vec<(String, RoomSettings)>);

impl Patterns {
    /// Sorts stored patterns.
    pub fn new(mut entries: Vec<(String, RoomSettings)>) -> Self {
        entries.sort_by_key(|(pattern, _)| (pattern.ends_with('*'), std::cmp::Reverse(pattern.len())));
        Self(entries)
    }

    /// The settings of a room.
    pub fn of(&self, room: &RoomId) -> RoomSettings {
        let said = self.0.iter().filter(|(pattern, _)| pattern::matches(pattern, room));
        said.fold(RoomSettings::default(), |sum, (_, settings)| sum.or(*settings))
    }

    /// The shortest lease that any pattern sets.
    pub fn lease_min(&self) -> Option<Duration> {
        self.0.iter().flat_map(|(_, settings)| [settings.lease, settings.lease_hidden]).flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_each_setting_the_most_precise_pattern_counts_that_says_something_about_it() {
        let spaced =
            |ms| RoomSettings { spacing: Some(Duration::from_millis(ms)), ..RoomSettings::default() };
        let patterns = Patterns::new(vec![
            ("*".into(), RoomSettings { members_max: Some(7), ..spaced(1) }),
            ("team:*".into(), RoomSettings { members_max: Some(9), ..spaced(2) }),
            ("team:blue".into(), spaced(3)),
            ("team:blue*".into(), spaced(4)),
        ]);
        let of = |room: &str| {
            let settings = patterns.of(&RoomId::parse(room).unwrap());
            (settings.spacing.unwrap().as_millis(), settings.members_max.unwrap())
        };
        assert_eq!(of("lobby"), (1, 7));
        assert_eq!(of("team"), (1, 7));
        assert_eq!(of("team:red"), (2, 9));
        assert_eq!(of("team:blue"), (3, 9), "the room itself goes before a beginning, however long");
        assert_eq!(of("team:blueish"), (4, 9));
        assert_eq!(Patterns::default().of(&RoomId::parse("lobby").unwrap()), RoomSettings::default());
    }

    #[test]
    fn the_shortest_lease_is_that_of_any_pattern() {
        let lease = |secs| RoomSettings { lease: Some(Duration::from_secs(secs)), ..RoomSettings::default() };
        let patterns =
            Patterns::new(vec![("a".into(), lease(9)), ("b".into(), lease(4)), ("c".into(), lease(5))]);
        assert_eq!(patterns.lease_min(), Some(Duration::from_secs(4)));
        assert_eq!(Patterns::default().lease_min(), None);
    }
}
