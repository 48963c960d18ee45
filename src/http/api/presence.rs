//! `GET /v1/users/{id}/presence` and `POST /v1/users/presence`

use std::collections::HashSet;

use actix_web::{get, post, web};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::auth::Right;
use crate::domain::id::{RoomId, UserId};
use crate::domain::last_seen::ShowLastSeen;
use crate::domain::member::Status;
use crate::http::request::body::Body;
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::store::rosters::{Bounds, Whereabouts};

/// Users in one request, at most.
const IDS_MAX: usize = 1000;

/// Rooms of one user in an answer, at most.
pub(super) const ROOMS_MAX: usize = 1000;

/// Users and rooms in one answer, at most: some 100 ms of the database's work.
const PLACES_MAX: usize = 5000;

/// A token of more grants is looked at here and not in the database, where each would be compared with each room.
const RANGES_MAX: usize = 64;

/// Where a user is.
#[derive(Clone, Serialize, ToSchema)]
pub struct UserPresence {
    /// The user's id.
    #[schema(example = "ann")]
    id: String,
    /// Whether they are in any room that the caller may watch.
    pub online: bool,
    /// That of their most present session; null when not online.
    pub status: Option<Status>,
    /// The rooms they are in, of those that the caller may watch: the first 1000 by key.
    #[schema(example = json!(["lobby"]))]
    pub rooms: Vec<String>,
    /// Their newest heartbeat where others see them, or the last before they left; null when never seen. Other users
    /// are told no more of it than the user's `show_last_seen` says.
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<OffsetDateTime>,
}

/// Which users.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdsBody {
    /// Up to 1000 user ids; one that is named twice is answered once.
    #[schema(max_items = 1000, example = json!(["ann", "bob"]))]
    ids: Vec<UserId>,
}

/// The answer, in the order asked.
#[derive(Serialize, ToSchema)]
pub struct UsersPresence {
    /// One for each different id, where it was first named.
    users: Vec<UserPresence>,
}

problems!(UserPresenceProblems: InvalidUser MissingToken InvalidToken ExpiredToken TooManyReads Overloaded Unavailable);

/// Where a user is
///
/// A user that was never seen is offline, and so is one who is invisible, but for themselves and the server key. Right: any token sees the rooms it may watch; the server key sees all.
#[utoipa::path(
    tag = "users",
    params(("id" = inline(UserId), Path, description = "The user.", example = "ann")),
    responses((status = 200, description = "Where they are.", body = UserPresence), UserPresenceProblems),
    security(("token" = []), ("server_key" = []))
)]
#[get("/v1/users/{id}/presence")]
pub async fn user_presence(
    service: web::Data<Service>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<web::Json<UserPresence>, Problem> {
    let mut users = find(&service, &caller, vec![UserId::parse(&id)?], ROOMS_MAX).await?;
    users.pop().map(web::Json).ok_or(Code::Internal.into())
}

problems!(UsersPresenceProblems: InvalidJson InvalidBody MissingToken InvalidToken ExpiredToken BodyTimeout
    BodyTooLarge UnsupportedType TooManyPlaces TooManyReads Overloaded Unavailable);

/// Where many users are
///
/// One entry for each different id. Users who are in more than 5000 rooms together, of those that the caller may watch, are
/// too many for one answer. Right: any token sees the rooms it may watch; the server key sees all.
#[utoipa::path(
    tag = "users",
    request_body = IdsBody,
    responses((status = 200, description = "Where they are.", body = UsersPresence), UsersPresenceProblems),
    security(("token" = []), ("server_key" = []))
)]
#[post("/v1/users/presence")]
pub async fn users_presence(
    service: web::Data<Service>,
    caller: Caller,
    Body(body): Body<IdsBody, { 256 * 1024 }>,
) -> Result<web::Json<UsersPresence>, Problem> {
    if body.ids.len() > IDS_MAX {
        return Err(Problem::with(Code::InvalidBody, format!("at most {IDS_MAX} ids")));
    }
    Ok(web::Json(UsersPresence { users: find(&service, &caller, different(body.ids), ROOMS_MAX).await? }))
}

/// Each id once, where it was first named.
fn different(ids: Vec<UserId>) -> Vec<UserId> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

/// Where these users are, each named once, in the order asked. It is paid for by how much there was to look up.
pub async fn find(
    service: &Service,
    caller: &Caller,
    ids: Vec<UserId>,
    rooms_max: usize,
) -> Result<Vec<UserPresence>, Problem> {
    service.limits.read(caller.subject(), ids.len())?;
    let (asked, viewer, bounds) = (ids.clone(), caller.viewer(), bounds(caller, ids.len(), rooms_max));
    let found =
        service.store.read(move |store| async move { store.whereabouts(&asked, &viewer, &bounds).await });
    let found = found.await?;
    let sessions: usize = found.iter().filter_map(|(_, place)| usize::try_from(place.sessions).ok()).sum();
    service.limits.have_read(caller.subject(), found.len() + sessions);
    if found.len() > PLACES_MAX + ids.len() {
        return Err(Code::TooManyPlaces.into());
    }
    let of_one = found.chunk_by(|(one, _), (other, _)| one == other);
    Ok(of_one
        .zip(ids)
        .map(|(places, id)| seen_by(caller, &id, places.iter().map(|(_, place)| place)))
        .collect())
}

/// One place more than there may be, so that it is known when there are too many. A user without a room is a place, too.
fn bounds(caller: &Caller, users: usize, rooms_max: usize) -> Bounds {
    let watched = caller.claims().map(|claims| claims.rooms.ranges(Right::Watch, ""));
    let Bounds { rooms: everywhere, .. } = Bounds::none();
    let [rooms_max, places_max] =
        [rooms_max, PLACES_MAX + users + 1].map(|max| i64::try_from(max).unwrap_or(i64::MAX));
    let rooms = watched.filter(|ranges| ranges.len() <= RANGES_MAX).unwrap_or(everywhere);
    Bounds { rooms, rooms_max, places_max }
}

/// Where a user is in the eyes of a caller, of all places where they are.
pub fn seen_by<'a>(
    caller: &Caller,
    id: &UserId,
    places: impl Iterator<Item = &'a Whereabouts>,
) -> UserPresence {
    let mut user =
        UserPresence { id: id.to_string(), online: false, status: None, rooms: Vec::new(), last_seen: None };
    for place in places {
        let hidden = place.invisible == Some(true) && caller.must_be_self_or_server(id).is_err();
        let online_last_seen = place.online_last_seen.filter(|_| !hidden);
        let last_seen = online_last_seen.max(place.last_seen_at);
        user.last_seen = user.last_seen.max(last_seen.and_then(|at| told(place, at, caller)));
        if !hidden {
            add_room(&mut user, place, caller);
        }
    }
    user
}

/// What the caller may know of when the user was last seen.
fn told(whereabouts: &Whereabouts, last_seen: OffsetDateTime, caller: &Caller) -> Option<OffsetDateTime> {
    if caller.subject().is_none_or(|user| user.as_str() == whereabouts.user_id) {
        return Some(last_seen);
    }
    ShowLastSeen::parse(whereabouts.show_last_seen.as_deref()?).to_others(last_seen)
}

fn add_room(user: &mut UserPresence, whereabouts: &Whereabouts, caller: &Caller) {
    let (Some(room), Some(status)) = (&whereabouts.room_id, &whereabouts.status) else {
        return;
    };
    if RoomId::parse(room).is_ok_and(|room| caller.may(Right::Watch, &room).is_ok()) {
        user.online = true;
        user.status = most_present(user.status, status);
        user.rooms.push(room.clone());
    }
}

fn most_present(status: Option<Status>, other: &str) -> Option<Status> {
    match (status, other) {
        (Some(Status::Online), _) | (_, "online") => Some(Status::Online),
        (Some(Status::Dnd), _) | (_, "dnd") => Some(Status::Dnd),
        _ => Some(Status::Idle),
    }
}
