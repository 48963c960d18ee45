//! `GET /v1/users/{id}/presence` and `POST /v1/users/presence`

use std::collections::HashSet;

use actix_web::{get, post, web};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::auth::Right;
use crate::domain::id::{RoomId, UserId};
use crate::domain::last_seen::ShowLastSeen;
use crate::domain::member::{Shown, Status};
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
    /// Their status in those rooms: `dnd` goes before `online`, `online` before `idle`; null when not online.
    pub status: Option<Status>,
    /// The rooms they are in, of those that the caller may watch: the first 1000 by key.
    #[schema(example = json!(["lobby"]))]
    pub rooms: Vec<String>,
    /// Their newest heartbeat in a room that the caller may watch, where others see them. The last before they left is
    /// told to the user, the server key, and tokens that may watch every room or name the user in their claim `users`.
    /// Else null. Others are told no more of it than the user's `show_last_seen` says.
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<OffsetDateTime>,
}

impl UserPresence {
    /// What was told of when they were last seen stays true after they left the rooms that tell it.
    pub fn still_seen(&mut self, before: &Self) {
        self.last_seen = self.last_seen.max(before.last_seen);
    }
}

/// Which users.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdsBody {
    /// Up to 1000 user ids; one that is named twice is answered once.
    #[schema(max_items = 1000, example = json!(["ann", "bob"]))]
    ids: Vec<UserId>,
}

/// The answer, in the order of the request.
#[derive(Serialize, ToSchema)]
pub struct UsersPresence {
    /// One for each different id, where it was first named.
    users: Vec<UserPresence>,
}

problems!(UserPresenceProblems: InvalidUser MissingToken InvalidToken ExpiredToken TooManyReads Overloaded Unavailable);

/// Get a user's presence
///
/// A user that was never seen is offline. An invisible user is offline to everybody but themselves and the
/// server key. Right: any token sees the rooms it may watch; the server key sees all.
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

/// Get the presence of many users
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
///
/// Rooms that the caller may not watch count for nothing, also not for when the user was last seen there. What is
/// stored of that when they left a room does not say which: only who may know the user anyway is told.
pub fn seen_by<'a>(
    caller: &Caller,
    id: &UserId,
    places: impl Iterator<Item = &'a Whereabouts>,
) -> UserPresence {
    let own = caller.must_be_self_or_server(id).is_ok();
    let mut shown: Option<Shown> = None;
    let mut user =
        UserPresence { id: id.to_string(), online: false, status: None, rooms: Vec::new(), last_seen: None };
    for place in places {
        let watched = watched(place, caller).filter(|_| own || place.invisible != Some(true));
        let counts = own || watched.is_some();
        let left = place.last_seen_at.filter(|_| caller.knows(id));
        let last_seen = place.online_last_seen.filter(|_| counts).max(left);
        user.last_seen = user.last_seen.max(last_seen.and_then(|at| told(place, at, own)));
        if let Some((room, here)) = watched {
            user.online = true;
            user.rooms.push(room);
            shown = Some(shown.map_or(here, |other| other.or(here)));
        }
    }
    user.status = shown.map(|shown| shown.status);
    user
}

/// What the caller may know of when the user was last seen.
fn told(place: &Whereabouts, last_seen: OffsetDateTime, own: bool) -> Option<OffsetDateTime> {
    if own {
        return Some(last_seen);
    }
    ShowLastSeen::parse(place.show_last_seen.as_deref()?).to_others(last_seen)
}

/// The room, if the caller may watch it, and the user's status there.
fn watched(place: &Whereabouts, caller: &Caller) -> Option<(String, Shown)> {
    let (room, status) = (place.room_id.as_ref()?, place.status.as_deref()?);
    caller.may(Right::Watch, &RoomId::parse(room).ok()?).ok()?;
    let status = match status {
        "online" => Status::Online,
        "dnd" => Status::Dnd,
        _ => Status::Idle,
    };
    Some((room.clone(), Shown { status, said: place.said == Some(true) }))
}

/// Whether the caller may know what others may of a user: it knows them anyway, or they are in a room that it may
/// watch, where others see them.
pub async fn may_meet(service: &Service, caller: &Caller, id: &UserId) -> Result<bool, Problem> {
    // Asked in every case, so that the time of the answer tells nothing.
    let found = find(service, caller, vec![id.clone()], ROOMS_MAX).await?;
    Ok(caller.knows(id) || found.first().is_some_and(|user| user.online))
}
