//! Leave: ends a session's presence in a room. Idempotent: leaving a room one is not in succeeds.

use std::time::Duration;

use super::{CommandError, Commands};
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::store::commands::{Answer, Command, Op};

/// Who leaves what, and how.
#[derive(Clone, Debug)]
pub struct Leave {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// Through which session.
    pub session: SessionId,
    /// Increasing per session.
    pub seq: Option<i64>,
    /// Waits for a join of the same user before it counts, so that a reload is silent.
    pub grace: bool,
}

impl Commands {
    /// Leaves. The answer comes after the commit.
    pub async fn leave(&self, leave: Leave) -> Result<Answer, CommandError> {
        let command = Command {
            seq: leave.seq,
            grace: if leave.grace { self.timing.leave_grace } else { Duration::ZERO },
            ..self.plain(Op::Leave, leave.room, leave.user, Some(leave.session))
        };
        self.writer.submit(command).await
    }
}
