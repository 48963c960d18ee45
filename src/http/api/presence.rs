//! `GET /v1/users/{id}/presence` and `POST /v1/users/presence`

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
use crate::store::rosters::Whereabouts;

/// Users in one request, at most.
const IDS_MAX: usize = 1000;

/// Where a user is.
#[derive(Clone, Serialize, ToSchema)]
pub struct UserPresence {
    /// The user's id.
    #[schema(example = "ann")]
    id: String,
    /// Whether they are in any room that the caller may watch.
    pub online: bool,
    /// The status of their most present session; null if not online.
    pub status: Option<Status>,
    /// The rooms they are in, of those that the caller may watch.
    #[schema(example = json!(["lobby"]))]
    pub rooms: Vec<String>,
    /// Their newest heartbeat where others see them, or the last before they left; null if never seen. Other
    /// users are told no more of it than the user's `show_last_seen` says.
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<OffsetDateTime>,
}

/// Which users.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdsBody {
    /// Up to 1000 user ids.
    #[schema(max_items = 1000, example = json!(["ann", "bob"]))]
    ids: Vec<UserId>,
}

/// The answer, in the order of the request.
#[derive(Serialize, ToSchema)]
pub struct UsersPresence {
    /// One for each id.
    users: Vec<UserPresence>,
}

problems!(UserPresenceProblems: InvalidUser MissingToken InvalidToken ExpiredToken Overloaded Unavailable);

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
    let mut users = find(&service, &caller, vec![UserId::parse(&id)?]).await?;
    users.pop().map(web::Json).ok_or(Code::Internal.into())
}

problems!(UsersPresenceProblems: InvalidJson InvalidBody MissingToken InvalidToken ExpiredToken BodyTimeout
    BodyTooLarge UnsupportedType Overloaded Unavailable);

/// Get the presence of many users
///
/// Right: any token sees the rooms it may watch; the server key sees all.
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
    Ok(web::Json(UsersPresence { users: find(&service, &caller, body.ids).await? }))
}

pub async fn find(
    service: &Service,
    caller: &Caller,
    ids: Vec<UserId>,
) -> Result<Vec<UserPresence>, Problem> {
    let (asked, viewer) = (ids.clone(), caller.viewer());
    let found =
        service.store.detached(move |store| async move { store.whereabouts(&asked, &viewer).await }).await?;
    let of_one = found.chunk_by(|(one, _), (other, _)| one == other);
    Ok(of_one
        .zip(ids)
        .map(|(places, id)| seen_by(caller, &id, places.iter().map(|(_, place)| place)))
        .collect())
}

/// A user's presence as far as the caller may see it, from all places where the user is.
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

/// The time when the user was last seen, as far as the caller may know it.
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
