//! Ids from outside, checked on construction. Code that holds one of these types need not check again.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::{Uuid, Variant};

/// Characters of a room key or a user id, at most.
pub const ID_CHARS_MAX: usize = 128;

/// A room's key: 1 to 128 characters of `A-Z a-z 0-9 _ . : ~ -`, and neither `.` nor `..`, because browsers
/// resolve those as steps in the path of a URL, even when they are percent-encoded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RoomId(Arc<str>);

/// A user's id: 1 to 128 characters, chosen by the application; no control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct UserId(Arc<str>);

/// A session's id: a UUID chosen by the client, once per tab or device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

/// Why an id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a room key.
    #[error("a room is 1 to 128 characters of A-Z a-z 0-9 _ . : ~ - and neither . nor ..")]
    Room,
    /// Not a user id.
    #[error("a user id is 1 to 128 characters without control characters")]
    User,
}

impl SessionId {
    /// Whether it can have been made at random (version 4 or 7): another one can be guessed, or is a device's own.
    pub fn is_random(self) -> bool {
        self.0.get_variant() == Variant::RFC4122 && matches!(self.0.get_version_num(), 4 | 7)
    }
}

impl RoomId {
    /// Checks a room key.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.:~-".contains(&b);
        let fits = (1..=ID_CHARS_MAX).contains(&text.len()) && text != "." && text != "..";
        if fits && text.bytes().all(allowed) { Ok(Self(text.into())) } else { Err(IdError::Room) }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UserId {
    /// Checks a user id.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fits = (1..=ID_CHARS_MAX).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text.into())) } else { Err(IdError::User) }
    }

    /// Placeholder for a watcher that is no user. No user's id holds a control character, so nobody shares it.
    pub fn nobody() -> Self {
        Self("\u{1}".into())
    }

    /// Whether this is the placeholder.
    pub fn is_nobody(&self) -> bool {
        &*self.0 == "\u{1}"
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_id {
    ($name:ident, $pattern:literal, $example:literal) => {
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some($pattern));
                text.min_length(Some(1)).max_length(Some(ID_CHARS_MAX)).examples([$example]).into()
            }
        }
        impl ToSchema for $name {}

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}
// Excludes `.` and `..` without look-ahead, which not every regex engine supports.
text_id!(RoomId, r"^(\.*[A-Za-z0-9_:~-][A-Za-z0-9_.:~-]*|\.{3,})$", "lobby");
text_id!(UserId, r"^[^\u0000-\u001f\u007f-\u009f]*$", "ann");

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_key_is_one_to_128_of_its_alphabet() {
        assert!(RoomId::parse("team:42_a.b~c-D").is_ok());
        assert!(RoomId::parse("...").is_ok());
        assert!(RoomId::parse(&"r".repeat(128)).is_ok());
        for bad in ["", "a b", "a/b", "é", "a\0", "?", ".", "..", &"r".repeat(129)] {
            assert_eq!(RoomId::parse(bad), Err(IdError::Room), "{bad:?}");
        }
    }

    #[test]
    fn a_session_id_that_is_not_random_is_found() {
        let random = |text: &str| SessionId(text.parse().unwrap()).is_random();
        assert!(random("3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77") && random(&Uuid::new_v4().to_string()));
        assert!(random("01890a5d-ac96-774b-bcce-b302099a8057"));
        for other in [
            "00000000-0000-0000-0000-000000000000",
            "00000000-0000-0000-0000-000000000001",
            "c232ab00-9414-11ec-b3c8-9e6bdeced846",
            "3f2b8c1e-52a4-4a57-0d6b-0f4f3a1c9e77",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ] {
            assert!(!random(other), "{other}");
        }
    }

    #[test]
    fn a_user_id_counts_characters_and_refuses_controls() {
        assert!(UserId::parse("ann@example.org/Zoë").is_ok());
        assert!(UserId::parse(&"é".repeat(128)).is_ok());
        for bad in ["", "a\0b", "a\nb", &"é".repeat(129)] {
            assert_eq!(UserId::parse(bad), Err(IdError::User), "{bad:?}");
        }
    }
}
