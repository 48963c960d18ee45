//! When a user was last seen, as far as they let others know.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::UtcOffset;
use utoipa::ToSchema;

/// What other users are told of when a user was last seen. The user and the server key are told the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShowLastSeen {
    /// The time.
    #[default]
    Exact,
    /// The day: its first moment in UTC.
    Coarse,
    /// Nothing.
    Hidden,
}

impl ShowLastSeen {
    /// Its text in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Coarse => "coarse",
            Self::Hidden => "hidden",
        }
    }

    /// Parses the stored text. A value that this build does not know hides most.
    pub fn parse(text: &str) -> Self {
        match text {
            "exact" => Self::Exact,
            "coarse" => Self::Coarse,
            _ => Self::Hidden,
        }
    }

    /// The time that other users are shown.
    pub fn to_others(self, last_seen: OffsetDateTime) -> Option<OffsetDateTime> {
        match self {
            Self::Exact => Some(last_seen),
            Self::Coarse => Some(last_seen.to_offset(UtcOffset::UTC).replace_time(time::Time::MIDNIGHT)),
            Self::Hidden => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn others_are_told_no_more_than_the_user_lets_them() {
        let seen = datetime!(2026-01-31 01:59:58.123 +02:00);
        assert_eq!(ShowLastSeen::Exact.to_others(seen), Some(seen));
        assert_eq!(ShowLastSeen::Coarse.to_others(seen), Some(datetime!(2026-01-30 00:00 UTC)));
        assert_eq!(ShowLastSeen::Hidden.to_others(seen), None);
    }

    #[test]
    fn what_is_stored_is_read_back_and_the_unknown_hides() {
        for show in [ShowLastSeen::Exact, ShowLastSeen::Coarse, ShowLastSeen::Hidden] {
            assert_eq!(ShowLastSeen::parse(show.as_str()), show);
        }
        assert_eq!(ShowLastSeen::parse("weekly"), ShowLastSeen::Hidden);
    }
}
