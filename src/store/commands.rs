//! The batch of write commands: `headcount.apply`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::types::Json;

use super::{Store, StoreError, decode};
use crate::domain::cursor::Cursor;
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::member::{Member, Status};

/// One command, as `headcount.apply` takes it. What is `None` is kept as it is.
///
/// What says nothing is not sent: the database would parse it for every command, and keep the same.
#[derive(Clone, Debug, Serialize)]
pub struct Command {
    /// What to do.
    pub op: Op,
    /// In which room.
    pub room_id: RoomId,
    /// Whose presence.
    pub user_id: UserId,
    /// Through which session; none for a kick.
    pub session_id: Option<SessionId>,
    /// Increasing per session; an older one than the newest seen changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// The profile, at a join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The picture, at a join; empty removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// How present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What the application attaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Arc<RawValue>>,
    /// Whether the page can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
    /// Whether others do not see the session in the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invisible: Option<bool>,
    /// A leave waits this long for a join of the same user.
    #[serde(serialize_with = "interval", skip_serializing_if = "Duration::is_zero")]
    pub grace: Duration,
    /// Lease of a visible session.
    #[serde(serialize_with = "interval")]
    pub lease: Duration,
    /// Lease of a hidden session.
    #[serde(serialize_with = "interval")]
    pub lease_hidden: Duration,
    /// A join that [`UserLimits`] limits.
    pub limited: bool,
}

/// How much one user may have; none is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserLimits {
    /// Rooms.
    pub rooms_max: Option<i32>,
    /// Sessions.
    pub sessions_max: Option<i32>,
}

/// What a command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Makes the session present in the room.
    Join,
    /// Ends that.
    Leave,
    /// Changes status or state.
    Update,
    /// Ends all sessions of the user in the room.
    Kick,
}

impl Op {
    /// As SQL and metrics call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Update => "update",
            Self::Kick => "kick",
        }
    }
}

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done, or found done.
    Ok,
    /// The session is not in that room.
    Absent,
    /// The session is somebody else's, or nobody's.
    Foreign,
    /// Somebody holds the room; nothing was done.
    Busy,
    /// The user is in as many rooms as they may; nothing was done.
    RoomsFull,
    /// The user has as many sessions as they may; nothing was done.
    SessionsFull,
    /// The room has as many members as it takes; nothing was done.
    RoomFull,
}

impl Outcome {
    fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "ok" => Ok(Self::Ok),
            "absent" => Ok(Self::Absent),
            "foreign" => Ok(Self::Foreign),
            "busy" => Ok(Self::Busy),
            "rooms_full" => Ok(Self::RoomsFull),
            "sessions_full" => Ok(Self::SessionsFull),
            "room_full" => Ok(Self::RoomFull),
            other => Err(StoreError::unknown("outcome", other)),
        }
    }
}

/// What to do about a room that somebody holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IfHeld {
    /// Wait, up to the lock timeout.
    Wait,
    /// Leave its commands out.
    Skip,
}

/// The answer to one command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What became of it.
    pub outcome: Outcome,
    /// The room's position, at or past the command's event.
    pub cursor: Cursor,
    /// Whether this command made the user a member.
    pub created: bool,
    /// The member afterwards.
    pub member: Option<Member>,
    /// The session afterwards, where the settings of rooms say something about leases.
    pub session: Option<Leased>,
}

/// A session and its lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leased {
    /// Whether it counts as visible.
    pub visible: bool,
    /// How long a heartbeat of it lasts.
    pub lease: Duration,
}

impl Leased {
    pub(super) fn of(visible: bool, lease_ms: i64) -> Self {
        Self { visible, lease: Duration::from_millis(lease_ms.unsigned_abs()) }
    }
}

fn interval<S: serde::Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{} ms", value.as_millis()))
}

#[derive(Serialize)]
struct Numbered<'a> {
    ord: usize,
    #[serde(flatten)]
    command: &'a Command,
}

type AnswerRow = (i32, String, String, i64, bool, Option<Json<Member>>, Option<bool>, Option<i64>);

impl Store {
    /// Applies commands in one transaction, in their order, and answers each in that order. Commands for a room
    /// that somebody holds wait for it, or are answered [`Outcome::Busy`].
    pub async fn apply(
        &self,
        commands: &[Command],
        if_held: IfHeld,
        limits: UserLimits,
    ) -> Result<Vec<Answer>, StoreError> {
        let numbered: Vec<_> =
            commands.iter().enumerate().map(|(ord, command)| Numbered { ord, command }).collect();
        let mut rows: Vec<AnswerRow> = self
            .query(
                "select ord, outcome, epoch, version, created, member, visible, \
                        (extract(epoch from lease) * 1000)::bigint \
                 from headcount.rules, headcount.apply($1, $2, $3, $4)",
            )
            .bind(Json(numbered))
            .bind(if_held == IfHeld::Wait)
            .bind(limits.rooms_max)
            .bind(limits.sessions_max)
            .rows()
            .await?;
        rows.sort_unstable_by_key(|row| row.0);
        rows.into_iter().map(answer).collect()
    }
}

fn answer(
    (_, outcome, epoch, version, created, member, visible, lease): AnswerRow,
) -> Result<Answer, StoreError> {
    let outcome = Outcome::parse(&outcome)?;
    let cursor = Cursor { epoch: decode::epoch(&epoch)?, version };
    let member = member.map(|Json(m)| m);
    let session = visible.zip(lease).map(|(visible, lease)| Leased::of(visible, lease));
    Ok(Answer { outcome, cursor, created, member, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_nobody_knows_is_a_bug_and_no_refusal() {
        assert_eq!(Outcome::parse("foreign").unwrap(), Outcome::Foreign);
        assert!(matches!(Outcome::parse("postponed"), Err(StoreError::Bug(_))));
    }
}
