//! Kick: ends all sessions of a user in a room, with `left {kicked}`. They may join again.

use super::{CommandError, Commands};
use crate::domain::id::{RoomId, UserId};
use crate::store::commands::{Answer, Op};

impl Commands {
    /// Kicks. A no-op if the user is not there.
    pub async fn kick(&self, room: RoomId, user: UserId) -> Result<Answer, CommandError> {
        self.writer.submit(self.plain(Op::Kick, room, user, None)).await
    }
}
