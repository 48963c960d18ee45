//! `GET /v1/rooms`

use actix_web::{get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain::id::RoomId;
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// Which rooms, and which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RoomsQuery {
    /// Only rooms whose key has this prefix.
    #[param(example = "team:", max_length = 128, pattern = r"^[A-Za-z0-9_.:~-]*$")]
    prefix: Option<String>,
    /// Rooms on the page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100, example = 100)]
    limit: Option<i64>,
    /// Rooms after this key: the `next` of the page before.
    #[param(max_length = 128, pattern = r"^[A-Za-z0-9_.:~-]*$")]
    after: Option<String>,
}

/// An occupied room.
#[derive(Serialize, ToSchema)]
pub struct OccupiedRoom {
    /// The room.
    #[schema(example = "lobby")]
    room: String,
    /// Its members.
    #[schema(example = 3)]
    count: i32,
}

impl OccupiedRoom {
    pub(super) fn new(room: String, count: i32) -> Self {
        Self { room, count }
    }
}

/// A page of occupied rooms.
#[derive(Serialize, ToSchema)]
pub struct RoomsPage {
    /// Rooms by key.
    rooms: Vec<OccupiedRoom>,
    /// Give this as `after` for the next page; null on the last.
    next: Option<String>,
}

problems!(RoomsProblems: InvalidQuery MissingToken InvalidToken ExpiredToken ListNotAllowed TooManyReads Overloaded Unavailable);

/// List occupied rooms
///
/// Rooms with at least one member, by key. Rooms that the caller may not list are left out, as if nobody were
/// there. A token without the right to list any room is refused with `list_not_allowed`. Right: `list` in
/// each room, or server key.
#[utoipa::path(
    tag = "presence",
    params(RoomsQuery),
    responses((status = 200, description = "A page of rooms.", body = RoomsPage), RoomsProblems),
    security(("token" = []), ("server_key" = []))
)]
#[get("/v1/rooms")]
pub async fn rooms(
    service: web::Data<Service>,
    caller: Caller,
    query: web::Query<RoomsQuery>,
) -> Result<web::Json<RoomsPage>, Problem> {
    let RoomsQuery { prefix, limit, after } = query.into_inner();
    let (prefix, after, limit) = (key(prefix, "prefix")?, key(after, "after")?, limit.unwrap_or(100));
    if !(1..=1000).contains(&limit) {
        return Err(Problem::with(Code::InvalidQuery, "limit is 1 to 1000"));
    }
    let ranges = caller.may_list(&prefix)?;
    service.limits.read(caller.subject(), ranges.len())?;
    let found = service
        .store
        .read(move |store| async move { store.occupied_rooms(&after, &ranges, limit).await })
        .await?;
    service.limits.have_read(caller.subject(), found.len());
    let full = i64::try_from(found.len()).is_ok_and(|n| n == limit);
    let next = found.last().filter(|_| full).map(|(room, _)| room.clone());
    let rooms = found.into_iter().map(|(room, count)| OccupiedRoom::new(room, count)).collect();
    Ok(web::Json(RoomsPage { rooms, next }))
}

/// Checks a prefix or a page cursor: nothing, or characters that a room may have.
fn key(text: Option<String>, name: &str) -> Result<String, Problem> {
    match text {
        Some(text) if text == "." || text == ".." => Ok(text), // no rooms, but prefixes of some
        Some(text) if !text.is_empty() => match RoomId::parse(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(Problem::with(Code::InvalidQuery, format!("{name}: {error}"))),
        },
        _ => Ok(String::new()),
    }
}
