//! Queries about the past of a room. Each first reads the bounds of the log, and refuses a time outside them.

use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Store, StoreError, decode};
use crate::domain::cursor::Cursor;
use crate::domain::id::{RoomId, UserId};

/// The range when a query gives none.
const DEFAULT_RANGE: Duration = Duration::from_secs(24 * 60 * 60);

/// An answer about the past, or why there is none.
#[derive(Debug)]
pub enum Past<T> {
    /// The answer.
    Known(T),
    /// The time is before the log begins. The log is complete since this time.
    Gone(OffsetDateTime),
    /// The time is in the future. This is the time now.
    Future(OffsetDateTime),
}

/// A member at a past time.
#[derive(Debug, sqlx::FromRow)]
pub struct PastMember {
    /// The user's id.
    pub user_id: String,
    /// Display name.
    pub name: String,
    /// Picture.
    pub avatar_url: Option<String>,
    /// Status; none if the log no longer has it.
    pub status: Option<String>,
    /// State that the application had attached; none if the log no longer has it.
    pub state: Option<Json<Box<RawValue>>>,
    /// When the user became a member; none if the log no longer has it.
    pub joined_at: Option<OffsetDateTime>,
    /// Whether all fields are from the log, and so exact for that time.
    pub exact: bool,
}

/// A room's members at a time, by user id.
#[derive(Debug)]
pub struct PastRoster {
    /// The room's position at that time.
    pub cursor: Cursor,
    /// Number of members at that time.
    pub count: i64,
    /// The members on this page.
    pub members: Vec<PastMember>,
}

/// A time range as a client asks for it. By default it ends now, and is one day long.
#[derive(Clone, Copy, Debug)]
pub struct AskedRange {
    /// Its beginning.
    pub from: Option<OffsetDateTime>,
    /// Its end.
    pub to: Option<OffsetDateTime>,
}

/// A time range, including its beginning and excluding its end.
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

/// Filter and page of an attendance query.
#[derive(Debug)]
pub struct Attendees {
    /// Only this user; none for all.
    pub user: Option<UserId>,
    /// The time zone in which days begin.
    pub zone: String,
    /// Page cursor: only rows after this user and day.
    pub after: (String, String),
    /// Rows, at most.
    pub limit: i64,
}

/// Occupancy of a room over a range.
#[derive(Debug)]
pub struct OccupancyBuckets {
    /// The most members at once.
    pub peak: i64,
    /// When that number was first reached.
    pub peak_at: OffsetDateTime,
    /// For each bucket, its beginning and the most members in it.
    pub buckets: Vec<(OffsetDateTime, i64)>,
}

const BOUNDS: &str =
    "select complete_from, now, epoch, version, member_count from headcount.history_bounds($1, $2)";

const MEMBERS: &str = "select user_id, name, avatar_url, status, state, joined_at, exact \
     from headcount.members_at($1, $2, $3, $4)";

// The page is cut here and not in the function, which has to read the whole range anyway.
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
    /// A page of a room's members at a time, in the order of user ids, after an id. Events at exactly that time count.
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

    /// The part of a range that the log covers and that is not in the future, and the beginning of the range that was
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

    /// Minutes that users spent in a room within a known range, by user and day.
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

    /// Peak and buckets of a room's occupancy, within a range that is known at least in part.
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
