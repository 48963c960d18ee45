//! `GET /v1/rooms/{room}/history/...`: who was in a room, for how long, and how many. What invisible members did is in no
//! log, so it is in no answer.

mod query;

use std::time::Duration;

use actix_web::{get, web};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::ToSchema;

use self::query::{AttendanceQuery, MembersQuery, OccupancyQuery};
use crate::auth::Right;
use crate::domain::id::RoomId;
use crate::domain::timestamp::Shown;
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::store::StoreError;
use crate::store::history::{AskedRange, Past, PastMember, TimeRange};

/// As many rows a question about the past counts as being looked up: it walks through a part of the log.
const ROWS: usize = 200;

/// Buckets in an answer, at most: more than a chart has pixels for.
const BUCKETS_MAX: i64 = 2000;

/// A member as they were.
#[derive(Serialize, ToSchema)]
pub struct MemberThen {
    /// The user's id.
    #[schema(example = "ann")]
    id: String,
    /// Display name. Text: never to be put into HTML unescaped.
    #[schema(example = "Ann")]
    name: String,
    /// Picture, or null.
    #[schema(example = "https://example.org/ann.png")]
    avatar_url: Option<String>,
    /// How present they were: `online`, `idle` or `dnd`; null if the log no longer says.
    #[schema(example = "online")]
    status: Option<String>,
    /// What the application had attached; null if the log no longer says.
    #[schema(value_type = Value, example = json!({"typing": true}))]
    state: Option<Box<RawValue>>,
    /// When they had become a member; null if the log no longer says.
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T11:55:00.000Z")]
    joined_at: Option<OffsetDateTime>,
    /// That they were there is always certain. `false` where the log no longer says what they looked like: name and
    /// picture are then what is known of them since.
    #[schema(example = true)]
    exact: bool,
}

/// Who was in a room at a time.
#[derive(Serialize, ToSchema)]
pub struct MembersAt {
    /// The room.
    room: RoomId,
    /// The time that was asked for.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    at: OffsetDateTime,
    /// The room's position then. A version of an older epoch is told with the epoch of now.
    #[schema(example = "1f0c2a910.42")]
    cursor: String,
    /// All members that the room had then.
    #[schema(example = 1)]
    count: i64,
    /// Members by id.
    members: Vec<MemberThen>,
    /// Give this as `after` for the next page; null on the last.
    next: Option<String>,
}

/// A user's time in a room on one day.
#[derive(Serialize, ToSchema)]
pub struct AttendanceRow {
    /// The user's id.
    #[schema(example = "ann")]
    user: String,
    /// The day, in the time zone that was asked for.
    #[schema(format = Date, example = "2026-01-31")]
    day: String,
    /// Minutes, with two decimals.
    #[schema(example = 47.25)]
    minutes: f64,
}

/// How long users were in a room.
#[derive(Serialize, ToSchema)]
pub struct Attendance {
    /// The room.
    room: RoomId,
    /// Beginning of the range.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T00:00:00.000Z")]
    from: OffsetDateTime,
    /// Its end: what was asked for, or now.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-02-01T00:00:00.000Z")]
    to: OffsetDateTime,
    /// What is told is complete from here. Later than `from` where the log does not reach back so far; the time before
    /// counts for nobody then.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T00:00:00.000Z")]
    complete_from: OffsetDateTime,
    /// By user and day; days on which a user was not there have none.
    rows: Vec<AttendanceRow>,
    /// Give this as `after` for the next page; null on the last.
    next: Option<String>,
}

/// A number of members, and since when.
#[derive(Serialize, ToSchema)]
pub struct CountAt {
    /// The time.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    at: OffsetDateTime,
    /// Members.
    #[schema(example = 12)]
    count: i64,
}

/// How many members a room had.
#[derive(Serialize, ToSchema)]
pub struct Occupancy {
    /// The room.
    room: RoomId,
    /// Beginning of the range.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T00:00:00.000Z")]
    from: OffsetDateTime,
    /// Its end: what was asked for, or now.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-02-01T00:00:00.000Z")]
    to: OffsetDateTime,
    /// What is told is complete from here, as in attendance.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T00:00:00.000Z")]
    complete_from: OffsetDateTime,
    /// The most at once, and when there first were so many.
    peak: CountAt,
    /// The most in each bucket, by its beginning. The first begins at `from`; those before `complete_from` are left out.
    buckets: Vec<CountAt>,
}

problems!(HistoryProblems: InvalidRoom InvalidQuery MissingToken InvalidToken ExpiredToken RoomNotFound HistoryGone
    TooManyReads Overloaded Unavailable);

/// Who was in a room at a time
///
/// Exact for as long as the event log reaches back (`HEADCOUNT_RETENTION`); an earlier time is answered with
/// `history_gone`, which says from when on one can ask. Right: `admin` in the room, or server key.
#[utoipa::path(
    tag = "history",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby"), MembersQuery),
    responses((status = 200, description = "Who was there.", body = MembersAt), HistoryProblems),
    security(("token" = []), ("server_key" = []))
)]
#[get("/v1/rooms/{room}/history/members")]
pub async fn members(
    service: web::Data<Service>,
    caller: Caller,
    room: web::Path<String>,
    query: web::Query<MembersQuery>,
) -> Result<web::Json<MembersAt>, Problem> {
    let room = RoomId::parse(&room)?;
    caller.may(Right::Admin, &room)?;
    service.limits.read(caller.subject(), ROWS)?;
    let (at, limit, after) = query.into_inner().check()?;
    let asked = room.clone();
    let roster = told(
        service
            .store
            .read(move |store| async move { store.past_members(&asked, at, &after, limit).await })
            .await,
    )?;
    let full = is_full(roster.members.len(), limit);
    let next = roster.members.last().filter(|_| full).map(|member| member.user_id.clone());
    let members = roster.members.into_iter().map(MemberThen::from).collect();
    Ok(web::Json(MembersAt {
        room,
        at,
        cursor: roster.cursor.to_string(),
        count: roster.count,
        members,
        next,
    }))
}

/// How long users were in a room
///
/// Minutes of each user for each day. Who is still there counts to now, or to the range's end. What the event log does
/// not hold any more does not count: see `complete_from`. A range of which it holds nothing is answered with
/// `history_gone`. Right: `admin` in the room, or server key.
#[utoipa::path(
    tag = "history",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby"), AttendanceQuery),
    responses((status = 200, description = "How long they were there.", body = Attendance), HistoryProblems),
    security(("token" = []), ("server_key" = []))
)]
#[get("/v1/rooms/{room}/history/attendance")]
pub async fn attendance(
    service: web::Data<Service>,
    caller: Caller,
    room: web::Path<String>,
    query: web::Query<AttendanceQuery>,
) -> Result<web::Json<Attendance>, Problem> {
    let room = RoomId::parse(&room)?;
    caller.may(Right::Admin, &room)?;
    service.limits.read(caller.subject(), ROWS)?;
    let (asked, attendees) = query.into_inner().check()?;
    let (range, from) = known(&service, &room, asked).await?;
    let (of, limit) = (room.clone(), attendees.limit);
    let found = service
        .store
        .read(move |store| async move { store.attendance(&of, range, &attendees).await })
        .await
        .map_err(|error| match error {
            StoreError::Refused(_) => Problem::with(Code::InvalidQuery, "tz is the name of no time zone"),
            error => error.into(),
        })?;
    let full = is_full(found.len(), limit);
    let next = found.last().filter(|_| full).map(|row| format!("{}.{}", row.day, row.user_id));
    let rows = found
        .into_iter()
        .map(|row| AttendanceRow { user: row.user_id, day: row.day, minutes: row.minutes })
        .collect();
    Ok(web::Json(Attendance { room, from, to: range.to, complete_from: range.from, rows, next }))
}

/// How many members a room had
///
/// At most, and in each bucket of a range. Right: `admin` in the room, or server key.
#[utoipa::path(
    tag = "history",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby"), OccupancyQuery),
    responses((status = 200, description = "How many there were.", body = Occupancy), HistoryProblems),
    security(("token" = []), ("server_key" = []))
)]
#[get("/v1/rooms/{room}/history/occupancy")]
pub async fn occupancy(
    service: web::Data<Service>,
    caller: Caller,
    room: web::Path<String>,
    query: web::Query<OccupancyQuery>,
) -> Result<web::Json<Occupancy>, Problem> {
    let room = RoomId::parse(&room)?;
    caller.may(Right::Admin, &room)?;
    service.limits.read(caller.subject(), ROWS)?;
    let (asked, bucket) = query.check()?;
    let (known, from) = known(&service, &room, asked).await?;
    if (known.to - known.from).whole_seconds() / i64::try_from(bucket.as_secs()).unwrap_or(1) >= BUCKETS_MAX {
        let detail = format!("at most {BUCKETS_MAX} buckets: a shorter range, or longer buckets");
        return Err(Problem::with(Code::InvalidQuery, detail));
    }
    // From where it was asked for, so that buckets begin where the caller has them begin.
    let (of, range) = (room.clone(), TimeRange { from, ..known });
    let found =
        service.store.read(move |store| async move { store.occupancy(&of, range, bucket).await }).await?;
    let peak = CountAt { at: found.peak_at, count: found.peak };
    let buckets = found.buckets.into_iter().map(|(at, count)| CountAt { at, count }).collect();
    Ok(web::Json(Occupancy { room, from, to: known.to, complete_from: known.from, peak, buckets }))
}

async fn known(
    service: &Service,
    room: &RoomId,
    asked: AskedRange,
) -> Result<(TimeRange, OffsetDateTime), Problem> {
    let room = room.clone();
    told(service.store.read(move |store| async move { store.known_range(&room, asked).await }).await)
}

fn told<T>(found: Result<Past<T>, StoreError>) -> Result<T, Problem> {
    match found? {
        Past::Known(known) => Ok(known),
        Past::Gone(from) => {
            // Rounded up, so that one can ask for what is told here.
            let from = Shown(from + Duration::from_nanos(999_999));
            Err(Problem::with(Code::HistoryGone, format!("The log is complete since {from}.")))
        }
        Past::Future(now) => {
            let now = Shown(now);
            Err(Problem::with(Code::InvalidQuery, format!("That time is not over: it is {now}.")))
        }
    }
}

fn is_full(rows: usize, limit: i64) -> bool {
    i64::try_from(rows).is_ok_and(|rows| rows == limit)
}

impl From<PastMember> for MemberThen {
    fn from(member: PastMember) -> Self {
        Self {
            id: member.user_id,
            name: member.name,
            avatar_url: member.avatar_url,
            status: member.status,
            state: member.state.map(|state| state.0),
            joined_at: member.joined_at,
            exact: member.exact,
        }
    }
}
