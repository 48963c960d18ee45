//! `GET /v1/rooms/{room}/history/...`: past members of a room, their attendance, and the room's occupancy.
//! Changes of invisible members are not logged, so no answer has them.

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

/// A member at a past time.
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
    /// How present they were: `online`, `idle` or `dnd`; null if the log no longer has it.
    #[schema(example = "online")]
    status: Option<String>,
    /// The state that the application had attached; null if the log no longer has it.
    #[schema(value_type = Value, example = json!({"typing": true}))]
    state: Option<Box<RawValue>>,
    /// When they had become a member; null if the log no longer has it.
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T11:55:00.000Z")]
    joined_at: Option<OffsetDateTime>,
    /// Whether the log still has the member as of that time. If `false`, name and picture are later ones.
    /// That the user was a member is certain in both cases.
    #[schema(example = true)]
    exact: bool,
}

/// The members of a room at a past time.
#[derive(Serialize, ToSchema)]
pub struct MembersAt {
    /// The room.
    room: RoomId,
    /// The time that was asked for.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    at: OffsetDateTime,
    /// The room's position then. A version of an older epoch is given with the current epoch.
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
    /// Its end: the one that was asked for, or now.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-02-01T00:00:00.000Z")]
    to: OffsetDateTime,
    /// The answer is complete from here. This is later than `from` if the log does not reach back so far; the
    /// time before is then counted for nobody.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T00:00:00.000Z")]
    complete_from: OffsetDateTime,
    /// By user and day; there is no row for a day on which the user was not there.
    rows: Vec<AttendanceRow>,
    /// Give this as `after` for the next page; null on the last.
    next: Option<String>,
}

/// A number of members, and its time.
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
    /// Its end: the one that was asked for, or now.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-02-01T00:00:00.000Z")]
    to: OffsetDateTime,
    /// The answer is complete from here, as in attendance.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T00:00:00.000Z")]
    complete_from: OffsetDateTime,
    /// The most members at once, and when that number was first reached.
    peak: CountAt,
    /// The most members at once in each bucket, by its beginning. The first begins at `from`; those before
    /// `complete_from` are left out.
    buckets: Vec<CountAt>,
}

problems!(HistoryProblems: InvalidRoom InvalidQuery MissingToken InvalidToken ExpiredToken RoomNotFound HistoryGone
    TooManyReads Overloaded Unavailable);

/// Get a room's members at a past time
///
/// Exact as far as the event log reaches back (`HEADCOUNT_RETENTION`). An earlier time is refused with
/// `history_gone`; its detail says since when the log is complete. Right: `admin` in the room, or server key.
#[utoipa::path(
    tag = "history",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby"), MembersQuery),
    responses((status = 200, description = "The members at that time.", body = MembersAt), HistoryProblems),
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

/// Get a room's attendance
///
/// Minutes of each user for each day. A user who is still there is counted until now, or until the end of the
/// range. Time that the event log no longer holds is not counted: see `complete_from`. A range of which it
/// holds nothing is refused with `history_gone`. Right: `admin` in the room, or server key.
#[utoipa::path(
    tag = "history",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby"), AttendanceQuery),
    responses((status = 200, description = "The attendance.", body = Attendance), HistoryProblems),
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

/// Get a room's occupancy
///
/// The most members at once in a range, and in each bucket of it. Right: `admin` in the room, or server key.
#[utoipa::path(
    tag = "history",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby"), OccupancyQuery),
    responses((status = 200, description = "The occupancy.", body = Occupancy), HistoryProblems),
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
    // From the `from` of the request, so that buckets begin where the caller asked.
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
            // Rounded up, so that a request for the time given here succeeds.
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
