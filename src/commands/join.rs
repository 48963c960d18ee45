//! Join: makes a session present in a room. May be repeated; a repeated join is the retry of the same one.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::{CommandError, Commands};
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::member::Status;
use crate::store::commands::{Answer, Command, Op};

/// Who joins where, and how.
#[derive(Clone, Debug)]
pub struct Join {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// Through which session.
    pub session: SessionId,
    /// Increasing per session.
    pub seq: Option<i64>,
    /// Changes the profile's name.
    pub name: Option<String>,
    /// Changes the profile's picture.
    pub avatar_url: Option<String>,
    /// `online` at first, else as it was.
    pub status: Option<Status>,
    /// As it was when not given.
    pub state: Option<Arc<RawValue>>,
    /// Visible at first, else as it was.
    pub visible: Option<bool>,
    /// Whether the user may not be in more rooms, nor have more sessions, than the settings say.
    pub limited: bool,
    /// Seen by others at first, else as it was.
    pub invisible: Option<bool>,
}

impl Commands {
    /// Joins. The answer comes after the commit.
    pub async fn join(&self, join: Join) -> Result<Answer, CommandError> {
        let command = Command {
            seq: join.seq,
            name: join.name,
            avatar_url: join.avatar_url,
            status: join.status,
            state: join.state,
            visible: join.visible,
            limited: join.limited,
            invisible: join.invisible,
            ..self.plain(Op::Join, join.room, join.user, Some(join.session))
        };
        self.writer.submit(command).await
    }

    /// A command about a session in a room that says nothing else.
    pub(super) fn plain(&self, op: Op, room: RoomId, user: UserId, session: Option<SessionId>) -> Command {
        Command {
            op,
            room_id: room,
            user_id: user,
            session_id: session,
            seq: None,
            name: None,
            avatar_url: None,
            status: None,
            state: None,
            visible: None,
            invisible: None,
            grace: Duration::ZERO,
            lease: self.timing.pace.lease,
            lease_hidden: self.timing.pace.lease_hidden,
            limited: false,
        }
    }
}
