//! Runs a batch of write commands: `headcount.apply`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::types::Json;

use super::decode::{self, counted};
use super::{Store, StoreError};
use crate::domain::cursor::Cursor;
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::member::{Member, Status};

/// One command, as `headcount.apply` takes it. A field that is `None` stays unchanged.
///
/// Such fields are left out of the JSON, which saves the database from parsing them for every command.
#[derive(Clone, Debug, Serialize)]
pub struct Command {
    /// The operation.
    pub op: Op,
    /// The room.
    pub room_id: RoomId,
    /// The user.
    pub user_id: UserId,
    /// The session; none for a kick.
    pub session_id: Option<SessionId>,
    /// Sequence number, increasing per session. A command older than the newest one seen is a no-op.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// The display name, at a join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The picture's address, at a join; an empty one removes the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// When the token with these two was issued, in seconds since 1970: a name that was set since stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<u64>,
    /// The status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The state that the application attaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Arc<RawValue>>,
    /// Whether the page is visible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
    /// Whether the session is hidden from others in the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invisible: Option<bool>,
    /// Grace of a leave: a join of the same user within it cancels the leave.
    #[serde(serialize_with = "interval", skip_serializing_if = "Duration::is_zero")]
    pub grace: Duration,
    /// Lease of a visible session.
    #[serde(serialize_with = "interval")]
    pub lease: Duration,
    /// Lease of a hidden session.
    #[serde(serialize_with = "interval")]
    pub lease_hidden: Duration,
    /// At a join from a token: when that was issued, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued: Option<i64>,
    /// Whether [`UserLimits`] apply to this join.
    pub limited: bool,
}

/// Limits of one user; none is no limit.
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
    /// Ends the session's presence in the room.
    Leave,
    /// Changes status or state.
    Update,
    /// Ends all sessions of the user in the room.
    Kick,
}

impl Op {
    /// Its name in SQL and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Update => "update",
            Self::Kick => "kick",
        }
    }
}

/// The result of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done, or a no-op because it was done before: commands are idempotent.
    Ok,
    /// The session is not in that room.
    Absent,
    /// The session belongs to another user, or does not exist.
    Foreign,
    /// Another transaction holds the lock of the room, or of the user; nothing was done.
    Busy,
    /// The user has reached the limit of rooms; nothing was done.
    RoomsFull,
    /// The user has reached the limit of sessions; nothing was done.
    SessionsFull,
    /// The room has reached its limit of members; nothing was done.
    RoomFull,
    /// The user's tokens were revoked after this one was issued; nothing was done.
    Revoked,
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
            "revoked" => Ok(Self::Revoked),
            other => Err(StoreError::unknown("outcome", other)),
        }
    }
}

/// What to do about a room that another transaction has locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IfHeld {
    /// Wait for the lock, up to the lock timeout.
    Wait,
    /// Skip its commands.
    Skip,
}

/// The answer to one command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The result.
    pub outcome: Outcome,
    /// The room's position, at or after the command's event.
    pub cursor: Cursor,
    /// Whether this command made the user a member.
    pub created: bool,
    /// The member afterwards.
    pub member: Option<Member>,
    /// The session afterwards. Given only where a room's settings change its lease.
    pub session: Option<Leased>,
    /// Events that the change of the user's profile caused, in all of their rooms.
    pub profile_events: usize,
}

/// A session and its lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leased {
    /// Whether it counts as visible.
    pub visible: bool,
    /// The lease that a heartbeat renews.
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

type AnswerRow = (i32, String, String, i64, bool, Option<String>, Option<bool>, Option<i64>, Option<String>);

impl Store {
    /// Applies a batch of commands in one transaction, in their order, and returns the answers in that order. Commands
    /// for a room that is locked wait for the lock, or are answered with [`Outcome::Busy`]. An answer that cannot be decoded
    /// fails by itself: its command and the others were carried out.
    pub async fn apply(
        &self,
        commands: &[Command],
        if_held: IfHeld,
        limits: UserLimits,
    ) -> Result<Vec<Result<Answer, StoreError>>, StoreError> {
        let numbered: Vec<_> =
            commands.iter().enumerate().map(|(ord, command)| Numbered { ord, command }).collect();
        let mut rows: Vec<AnswerRow> = self
            .query(
                "select ord, outcome, epoch, version, created, member::text, visible, \
                        (extract(epoch from lease) * 1000)::bigint, \
                        nullif(current_setting('headcount.profile_events', true), '') \
                 from headcount.rules, headcount.apply($1, $2, $3, $4)",
            )
            .bind(Json(numbered))
            .bind(if_held == IfHeld::Wait)
            .bind(limits.rooms_max)
            .bind(limits.sessions_max)
            .rows()
            .await?;
        rows.sort_unstable_by_key(|row| row.0);
        // The same in each row, and nearly always nothing. The first command of a user answers for it.
        let told = rows.first().and_then(|row| serde_json::from_str(row.8.as_deref()?).ok());
        let mut told: HashMap<String, usize> = told.unwrap_or_default();
        let caused = |command: &Command| told.remove(command.user_id.as_str()).unwrap_or_default();
        let caused: Vec<usize> = commands.iter().map(caused).collect();
        Ok(rows.into_iter().zip(caused).map(|(row, caused)| counted("writer", answer(row, caused))).collect())
    }
}

fn answer(
    (_, outcome, epoch, version, created, member, visible, lease, _): AnswerRow,
    profile_events: usize,
) -> Result<Answer, StoreError> {
    let outcome = Outcome::parse(&outcome)?;
    let cursor = Cursor { epoch: decode::epoch(&epoch)?, version };
    let member = member.as_deref().map(decode::member).transpose()?;
    let session = visible.zip(lease).map(|(visible, lease)| Leased::of(visible, lease));
    Ok(Answer { outcome, cursor, created, member, session, profile_events })
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
