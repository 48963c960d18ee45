//! Update: changes a session's status or state in a room, or whether others see it there. Logs one event if
//! others see a change: `updated`, or `left` when a member hides and `joined` when it is back.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{CommandError, Commands};
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::member::Status;
use crate::store::commands::{Answer, Command, Op, Outcome};

/// The parameters of an update.
#[derive(Clone, Debug)]
pub struct Update {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The session that changes.
    pub session: SessionId,
    /// Sequence number, increasing per session.
    pub seq: Option<i64>,
    /// Unchanged if omitted.
    pub status: Option<Status>,
    /// Unchanged if omitted.
    pub state: Option<Arc<RawValue>>,
    /// Unchanged if omitted.
    pub invisible: Option<bool>,
}

impl Commands {
    /// Updates. Answers after the commit.
    pub async fn update(&self, update: Update) -> Result<Answer, CommandError> {
        let command = Command {
            seq: update.seq,
            status: update.status,
            state: update.state,
            invisible: update.invisible,
            ..self.plain(Op::Update, update.room, update.user, Some(update.session))
        };
        match self.writer.submit(command).await? {
            answer if answer.outcome == Outcome::Absent => Err(CommandError::NoSession),
            answer => Ok(answer),
        }
    }
}
