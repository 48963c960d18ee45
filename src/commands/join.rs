//! Join: makes a session present in a room. Idempotent: a repeated join is a retry of the same one.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::{CommandError, Commands};
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::member::Status;
use crate::store::commands::{Answer, Command, Op};

/// The parameters of a join.
#[derive(Clone, Debug)]
pub struct Join {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The session through which the user joins.
    pub session: SessionId,
    /// Sequence number, increasing per session.
    pub seq: Option<i64>,
    /// Changes the profile's name.
    pub name: Option<String>,
    /// Changes the profile's picture.
    pub avatar_url: Option<String>,
    /// When the token that says both was issued, in seconds since 1970.
    pub issued_at: Option<u64>,
    /// None is said until one is named; later, unchanged if omitted.
    pub status: Option<Status>,
    /// Unchanged if omitted.
    pub state: Option<Arc<RawValue>>,
    /// Visible at first; later, unchanged if omitted.
    pub visible: Option<bool>,
    /// When the caller's token was issued, in seconds since 1970; none for the server key.
    pub issued: Option<i64>,
    /// Whether the limits on rooms and sessions of a user apply.
    pub limited: bool,
    /// Seen by others at first; later, unchanged if omitted.
    pub invisible: Option<bool>,
}

impl Commands {
    /// Joins. Answers after the commit.
    pub async fn join(&self, join: Join) -> Result<Answer, CommandError> {
        self.writer.submit(self.join_command(join)).await
    }

    pub(super) fn join_command(&self, join: Join) -> Command {
        Command {
            seq: join.seq,
            name: join.name,
            avatar_url: join.avatar_url,
            issued_at: join.issued_at,
            status: join.status,
            state: join.state,
            visible: join.visible,
            issued: join.issued,
            limited: join.limited,
            invisible: join.invisible,
            ..self.plain(Op::Join, join.room, join.user, Some(join.session))
        }
    }

    /// A command about a session in a room, with all options left at their defaults.
    pub(super) fn plain(&self, op: Op, room: RoomId, user: UserId, session: Option<SessionId>) -> Command {
        Command {
            op,
            room_id: room,
            user_id: user,
            session_id: session,
            seq: None,
            name: None,
            avatar_url: None,
            issued_at: None,
            status: None,
            state: None,
            visible: None,
            invisible: None,
            grace: Duration::ZERO,
            lease: self.timing.pace.lease,
            lease_hidden: self.timing.pace.lease_hidden,
            issued: None,
            limited: false,
        }
    }
}
