//! A user with at least one live session in a room.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::id::UserId;

/// How present a member is. Of their sessions that named a status the first of `dnd`, `online`, `idle` counts; where none
/// did, they are `online`, or `idle` when not active.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Here. Becomes `idle` by itself after 5 minutes without `active`.
    Online,
    /// Here, but away from the keyboard.
    Idle,
    /// Here, and not to be disturbed.
    Dnd,
}

/// A user's status in one room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The status.
    pub status: Status,
    /// Whether any of their sessions there named one.
    pub said: bool,
}

impl Shown {
    /// That of both rooms together: what is said does not lose to silence, and `dnd` goes before `online`, `online`
    /// before `idle`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let rank = |shown: Self| match (shown.status, shown.said) {
            (Status::Dnd, _) => 5,
            (Status::Online, true) => 4,
            (Status::Idle, true) => 3,
            (Status::Online, false) => 2,
            (Status::Idle, false) => 1,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// A member of a room.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The user's id.
    pub id: UserId,
    /// Display name. Text: never to be put into HTML unescaped.
    #[schema(value_type = String, example = "Ann")]
    pub name: Arc<str>,
    /// Picture, or null.
    #[schema(value_type = Option<String>, example = "https://example.org/ann.png")]
    pub avatar_url: Option<Arc<str>>,
    /// How present.
    pub status: Status,
    /// What the application attached, at most 1 KiB of JSON; `{}` when nothing was.
    #[schema(value_type = Value, example = json!({"typing": true}))]
    pub state: Arc<RawValue>,
    /// Live sessions (tabs, devices) of the user in this room. In frames as of the member's last event, because a tab more
    /// or less is none; in rosters as of now.
    #[schema(example = 1)]
    pub sessions: i32,
    /// When the user became a member.
    #[serde(with = "super::timestamp")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    pub joined_at: OffsetDateTime,
    /// `true` for one that nobody else sees. Only the member itself and the server key are told; absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false, example = false)]
    pub invisible: bool,
}

/// The reader of a roster, which decides whether invisible members are shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Viewer {
    /// An application's server: sees all members.
    Server,
    /// A user: sees visible members, and themselves.
    User(UserId),
}

impl Viewer {
    /// Whether this is an application's server.
    pub fn is_server(&self) -> bool {
        matches!(self, Self::Server)
    }

    /// The user's id, if the reader is a user.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Server => None,
            Self::User(user) => Some(user.as_str()),
        }
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.name == other.name
            && self.avatar_url == other.avatar_url
            && self.status == other.status
            && self.state.get() == other.state.get()
            && self.sessions == other.sessions
            && self.joined_at == other.joined_at
            && self.invisible == other.invisible
    }
}
