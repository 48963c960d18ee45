//! Webhooks as plain values: their names, their topics, and the backoff of retries.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Characters of a webhook's name, at most.
pub const NAME_CHARS_MAX: usize = 64;

/// A webhook's name: 1 to 64 characters of `A-Z a-z 0-9 _ -`. It is a label of metrics: operators choose few.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookName(String);

/// Not a webhook's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a webhook's name is 1 to {NAME_CHARS_MAX} characters of A-Z a-z 0-9 _ -")]
pub struct NameError;

impl WebhookName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        let fits = (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WebhookName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl fmt::Display for WebhookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a webhook can be told of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
pub enum Topic {
    /// A user became a member of a room.
    #[serde(rename = "member.joined")]
    MemberJoined,
    /// A member's profile, status or state changed.
    #[serde(rename = "member.updated")]
    MemberUpdated,
    /// A user is no longer a member.
    #[serde(rename = "member.left")]
    MemberLeft,
    /// The room has its first member.
    #[serde(rename = "room.occupied")]
    RoomOccupied,
    /// The room's last member left.
    #[serde(rename = "room.vacated")]
    RoomVacated,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 5] =
        [Self::MemberJoined, Self::MemberUpdated, Self::MemberLeft, Self::RoomOccupied, Self::RoomVacated];

    /// Its name in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemberJoined => "member.joined",
            Self::MemberUpdated => "member.updated",
            Self::MemberLeft => "member.left",
            Self::RoomOccupied => "room.occupied",
            Self::RoomVacated => "room.vacated",
        }
    }

    /// Parses a topic.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == text)
    }
}

/// Backoff before the first retry.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The longest backoff, apart from the jitter.
pub const RETRY_MAX: Duration = Duration::from_secs(300);

/// Backoff after so many failed attempts: 1 s, 2 s, 4 s and so on, up to 5 min. Jitter of 20 % keeps webhooks
/// that failed together from retrying together: `chance` is from 0 to 1.
pub fn retry_after(attempts: u32, chance: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16); // 2^16 s is far beyond the maximum
    let wait = (RETRY_FIRST * 2_u32.pow(doublings)).min(RETRY_MAX);
    let spread = wait.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0));
    Duration::from_micros(u64::try_from(spread.as_micros()).unwrap_or(u64::MAX)) // precision of a Postgres interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_to_64_of_its_alphabet() {
        assert!(WebhookName::parse("crm-sync_2").is_ok() && WebhookName::parse(&"a".repeat(64)).is_ok());
        for bad in ["", "a b", "a/b", "a.b", "é", "a\0", &"a".repeat(65)] {
            assert_eq!(WebhookName::parse(bad), Err(NameError), "{bad:?}");
        }
    }

    #[test]
    fn topics_read_back_as_written() {
        for topic in Topic::ALL {
            assert_eq!(Topic::parse(topic.as_str()), Some(topic));
            assert_eq!(serde_json::to_value(topic).unwrap(), topic.as_str());
        }
        assert_eq!(Topic::parse("member.moved"), None);
    }

    #[test]
    fn waits_double_from_one_second_up_to_five_minutes_and_are_spread_by_a_fifth() {
        let seconds = |attempts| retry_after(attempts, 0.5).as_secs_f64().round();
        let waits: Vec<f64> = (1..=12).map(seconds).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0, 300.0]);
        assert_eq!(retry_after(u32::MAX, 1.0), RETRY_MAX.mul_f64(1.2));
        assert_eq!(retry_after(1, 0.0), RETRY_FIRST.mul_f64(0.8));
    }
}
