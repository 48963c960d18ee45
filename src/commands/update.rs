//! Update: changes a session's status or state in a room, or whether others see it there. One event, if anything
//! shows: `updated`, or `left` and `joined` for one who hides and is back.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{CommandError, Commands};
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::member::Status;
use crate::store::commands::{Answer, Command, Op, Outcome};

/// Who changes what.
#[derive(Clone, Debug)]
pub struct Update {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// Through which session.
    pub session: SessionId,
    /// Increasing per session.
    pub seq: Option<i64>,
    /// As it was when not given.
    pub status: Option<Status>,
    /// As it was when not given.
    pub state: Option<Arc<RawValue>>,
    /// As it was when not given.
    pub invisible: Option<bool>,
}

impl Commands {
    /// Updates. The answer comes after the commit.
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
