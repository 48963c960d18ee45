//! Questions about the past of a room. Each looks first how far the log reaches, so that nothing is asked that cannot
//! be told.

use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Store, StoreError, decode};
use crate::domain::cursor::Cursor;
use crate::domain::id::{RoomId, UserId};

/// How much is told where the question does not say.
const DEFAULT_RANGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of the past.
#[derive(Debug)]
pub enum Past<T> {
    /// This.
    Known(T),
    /// Nothing, because it is before the log begins: it is complete since then.
    Gone(OffsetDateTime),
    /// Nothing, because it is not over: it is now so late.
    Future(OffsetDateTime),
}

/// A member as they were.
#[derive(Debug, sqlx::FromRow)]
pub struct PastMember {
    /// The user's id.
    pub user_id: String,
    /// Display name.
    pub name: String,
    /// Picture.
    pub avatar_url: Option<String>,
    /// How present; none if the log no longer says.
    pub status: Option<String>,
    /// What the application had attached; none if the log no longer says.
    pub state: Option<Json<Box<RawValue>>>,
    /// When they had become a member, if the log says.
    pub joined_at: Option<OffsetDateTime>,
    /// Whether the log says what they looked like then.
    pub exact: bool,
}

/// A room's members at a time, by user id.
#[derive(Debug)]
pub struct PastRoster {
    /// The room's position then.
    pub cursor: Cursor,
    /// All members then.
    pub count: i64,
    /// Those of the page.
    pub members: Vec<PastMember>,
}

/// A time range as it is asked for: to now, and of one day, where it does not say.
#[derive(Clone, Copy, Debug)]
pub struct AskedRange {
    /// Its beginning.
    pub from: Option<OffsetDateTime>,
    /// Its end.
    pub to: Option<OffsetDateTime>,
}

/// A time range, from one time up to but without another.
#[derive(Clone, Copy, Debug)]
pub struct TimeRange {
    /// Its beginning.
    pub from: OffsetDateTime,
    /// Its end.
    pub to: OffsetDateTime,
}

/// A user's time in a room on one day.
#[derive(Debug, sqlx::FromRow)]
pub struct Attended {
    /// The user's id.
    pub user_id: String,
    /// The day, as `2026-01-31`.
    pub day: String,
    /// Minutes, with two decimals.
    pub minutes: f64,
}

/// Whose attendance, in which days, and after which row.
#[derive(Debug)]
pub struct Attendees {
    /// Only this user's.
    pub user: Option<UserId>,
    /// The time zone that makes the days.
    pub zone: String,
    /// Rows after this user and day.
    pub after: (String, String),
    /// Rows, at most.
    pub limit: i64,
}

/// How many members a room had.
#[derive(Debug)]
pub struct OccupancyBuckets {
    /// The most at once.
    pub peak: i64,
    /// When it first had so many.
    pub peak_at: OffsetDateTime,
    /// The most in each bucket, by its beginning.
    pub buckets: Vec<(OffsetDateTime, i64)>,
}

const BOUNDS: &str =
    "select complete_from, now, epoch, version, member_count from headcount.history_bounds($1, $2)";

const MEMBERS: &str = "select user_id, name, avatar_url, status, state, joined_at, exact \
     from headcount.members_at($1, $2, $3, $4)";

// A page is cut here, not in the function: all rows are of one look at the log anyway.
const ATTENDANCE: &str = "select user_id, to_char(day, 'YYYY-MM-DD') as day, minutes::float8 \
     from headcount.attendance($1, $2, $3, $4, $5) \
     where (user_id collate \"C\", to_char(day, 'YYYY-MM-DD') collate \"C\") > ($6, $7) \
     order by user_id collate \"C\", day limit $8";

const OCCUPANCY: &str = "select p.count as peak, p.at as peak_at, b.at, b.count \
     from headcount.peak_occupancy($1, $2, $3) p \
     cross join headcount.occupancy($1, $2, $3, $4) b order by b.at";

#[derive(sqlx::FromRow)]
struct Bounds {
    complete_from: OffsetDateTime,
    now: OffsetDateTime,
    epoch: String,
    version: Option<i64>,
    member_count: Option<i64>,
}

impl Store {
    /// Who was in a room at a time, after a user id, in the order of ids; what happened at that time included.
    pub async fn past_members(
        &self,
        room: &RoomId,
        at: OffsetDateTime,
        after: &str,
        limit: i64,
    ) -> Result<Past<PastRoster>, StoreError> {
        let bounds = self.bounds(room, Some(at)).await?;
        if at > bounds.now {
            return Ok(Past::Future(bounds.now));
        }
        let (Some(version), Some(count)) = (bounds.version, bounds.member_count) else {
            return Ok(Past::Gone(bounds.complete_from));
        };
        let members = self.query(MEMBERS).bind(room.as_str()).bind(at).bind(after).bind(limit).rows().await?;
        let cursor = Cursor { epoch: decode::epoch(&bounds.epoch)?, version };
        Ok(Past::Known(PastRoster { cursor, count, members }))
    }

    /// The part of a range that is known: what the log holds, and what is over. And where the range began that was
    /// asked for.
    pub async fn known_range(
        &self,
        room: &RoomId,
        asked: AskedRange,
    ) -> Result<Past<(TimeRange, OffsetDateTime)>, StoreError> {
        let bounds = self.bounds(room, None).await?;
        let to = asked.to.unwrap_or(bounds.now).min(bounds.now);
        let from = asked.from.unwrap_or(to - DEFAULT_RANGE);
        if from >= bounds.now {
            return Ok(Past::Future(bounds.now));
        }
        if to <= bounds.complete_from {
            return Ok(Past::Gone(bounds.complete_from));
        }
        Ok(Past::Known((TimeRange { from: from.max(bounds.complete_from), to }, from)))
    }

    /// How long users were in a room within a known range, by user and day.
    pub async fn attendance(
        &self,
        room: &RoomId,
        range: TimeRange,
        attendees: &Attendees,
    ) -> Result<Vec<Attended>, StoreError> {
        self.query(ATTENDANCE)
            .bind(room.as_str())
            .bind(range.from)
            .bind(range.to)
            .bind(attendees.user.as_ref().map(UserId::as_str))
            .bind(&attendees.zone)
            .bind(&attendees.after.0)
            .bind(&attendees.after.1)
            .bind(attendees.limit)
            .rows()
            .await
    }

    /// How many members a room had, at most and in each bucket, within a range of which some is known.
    pub async fn occupancy(
        &self,
        room: &RoomId,
        range: TimeRange,
        bucket: Duration,
    ) -> Result<OccupancyBuckets, StoreError> {
        let rows: Vec<(i64, OffsetDateTime, OffsetDateTime, i64)> = self
            .query(OCCUPANCY)
            .bind(room.as_str())
            .bind(range.from)
            .bind(range.to)
            .bind(bucket)
            .rows()
            .await?;
        let (peak, peak_at, ..) = *rows.first().ok_or(StoreError::Unavailable)?;
        let buckets = rows.into_iter().map(|(_, _, at, count)| (at, count)).collect();
        Ok(OccupancyBuckets { peak, peak_at, buckets })
    }

    async fn bounds(&self, room: &RoomId, at: Option<OffsetDateTime>) -> Result<Bounds, StoreError> {
        self.query(BOUNDS).bind(room.as_str()).bind(at).row().await
    }
}
