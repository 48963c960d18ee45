//! Joins and leaves of many rooms at once, by one session: one transaction, and an outcome for each room.

use std::time::Duration;

use super::join::Join;
use super::writer::CommandResult;
use super::{CommandError, Commands};
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::store::commands::{Command, Op};

/// A leave of many rooms.
#[derive(Clone, Debug)]
pub struct LeaveRooms {
    /// The rooms; none: all that the session is in.
    pub rooms: Option<Vec<RoomId>>,
    /// The user.
    pub user: UserId,
    /// The session that leaves.
    pub session: SessionId,
    /// Sequence number, increasing per session.
    pub seq: Option<i64>,
    /// As for a leave of one room.
    pub grace: bool,
}

impl Commands {
    /// Joins all of them, in order. Answers after the commit.
    pub async fn join_rooms(&self, joins: Vec<Join>) -> Result<Vec<CommandResult>, CommandError> {
        self.together.submit(joins.into_iter().map(|join| self.join_command(join)).collect()).await
    }

    /// Leaves them. Answers after the commit, with the rooms that were left. A room that the session joins while this
    /// runs may be among them or not, as for any two calls at once.
    pub async fn leave_rooms(&self, leave: LeaveRooms) -> Result<Vec<(RoomId, CommandResult)>, CommandError> {
        let LeaveRooms { rooms, user, session, seq, grace } = leave;
        let rooms = match rooms {
            Some(rooms) => rooms,
            None => self.rooms_of_session(session, user.clone()).await?,
        };
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let grace = if grace { self.timing.leave_grace } else { Duration::ZERO };
        let command = |room: &RoomId| Command {
            seq,
            grace,
            ..self.plain(Op::Leave, room.clone(), user.clone(), Some(session))
        };
        let results = self.together.submit(rooms.iter().map(command).collect()).await?;
        Ok(rooms.into_iter().zip(results).collect())
    }

    /// The rooms that a session of this user is in.
    pub async fn rooms_of_session(
        &self,
        session: SessionId,
        user: UserId,
    ) -> Result<Vec<RoomId>, CommandError> {
        let read =
            self.store.detached(move |store| async move { store.rooms_of_session(session, &user).await });
        read.await.map_err(|error| CommandError::from(&error))
    }
}
