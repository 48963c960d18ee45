//! Leave: ends a session's presence in a room. Idempotent: leaving a room that the session is not in is a
//! no-op.

use std::time::Duration;

use super::{CommandError, Commands};
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::store::commands::{Answer, Command, Op};

/// The parameters of a leave.
#[derive(Clone, Debug)]
pub struct Leave {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The session that leaves.
    pub session: SessionId,
    /// Sequence number, increasing per session.
    pub seq: Option<i64>,
    /// Debounces the leave: a join of the same user within the grace cancels it, so that a page reload is
    /// silent.
    pub grace: bool,
}

impl Commands {
    /// Leaves. Answers after the commit.
    pub async fn leave(&self, leave: Leave) -> Result<Answer, CommandError> {
        let command = Command {
            seq: leave.seq,
            grace: if leave.grace { self.timing.leave_grace } else { Duration::ZERO },
            ..self.plain(Op::Leave, leave.room, leave.user, Some(leave.session))
        };
        self.writer.submit(command).await
    }
}
