//! `POST /v1/join`: many rooms of one session in one request and one transaction.

use std::collections::HashSet;

use actix_web::{post, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::join::{issued_at, millis, spread};
use crate::auth::{Claims, Right};
use crate::commands::join::Join;
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::lease::Advice;
use crate::domain::member::{Member, Status};
use crate::http::request::body::Body;
use crate::http::request::caller::Caller;
use crate::http::request::member_state;
use crate::http::request::problem::{Code, Problem, ProblemBody};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::store::commands::Answer;

/// Rooms in one request, at most.
const ROOMS_MAX: usize = 100;

/// A join of many rooms.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRoomsBody {
    /// The session: a UUID made by the client once per tab or device.
    #[schema(value_type = uuid::Uuid, example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// 1 to 100 rooms; one that is named twice is answered once.
    #[schema(min_items = 1, max_items = 100, example = json!(["lobby", "team:1"]))]
    rooms: Vec<String>,
    /// In all of them: `online` at first, else as it was.
    status: Option<Status>,
    /// In all of them: any JSON of at most 1 KiB; as it was when not given.
    #[schema(value_type = Value, required = false, example = json!({"typing": false}))]
    state: Option<Box<RawValue>>,
    /// Whether the page can be seen. Hidden sessions beat less often and have a longer lease.
    #[schema(example = true)]
    visible: Option<bool>,
    /// In all of them: whether others do not see this session. `false` at first, else as it was.
    #[schema(example = false)]
    invisible: Option<bool>,
    /// Increasing per session: an older one than the newest seen changes nothing.
    #[schema(example = 1)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    seq: Option<i64>,
    /// Under the server key only: for whom.
    user: Option<UserId>,
}

/// What became of a join in one of the rooms.
#[derive(Serialize, ToSchema)]
pub struct JoinedRoom {
    /// The room, as it was asked for.
    #[schema(example = "lobby")]
    room: String,
    /// The room's position, at or past this join; null when it failed.
    #[schema(example = "1f0c2a910.42")]
    cursor: Option<String>,
    /// Whether this call made the user a member whom others see.
    created: bool,
    /// The member; null when it failed, or was older than a leave already seen.
    member: Option<Member>,
    /// Why it failed; null when it did not.
    problem: Option<ProblemBody>,
}

/// The answer to a join of many rooms.
#[derive(Serialize, ToSchema)]
pub struct JoinedRooms {
    /// One for each different room, where it was first named.
    rooms: Vec<JoinedRoom>,
    /// Send the next heartbeat after this many milliseconds: the shortest that any of the rooms needs.
    #[schema(example = 15000)]
    heartbeat_ms: u64,
    /// Without a heartbeat the session ends after this many milliseconds: the shortest of any of the rooms.
    #[schema(example = 45000)]
    lease_ms: u64,
}

problems!(JoinRoomsProblems: InvalidJson InvalidBody InvalidState UserRequired MissingToken InvalidToken ExpiredToken
    UserNotAllowed BodyTimeout BodyTooLarge StateTooLarge UnsupportedType TooManyWrites TooManySessionWrites TooManyEvents Overloaded
    Unavailable OutcomeUnknown);

/// Be present in many rooms
///
/// As a join of each of the rooms, in one transaction. Each room has its own outcome: a `problem` of one (`room_full`,
/// `room_not_found`, ...) leaves the others joined. Right: `join` in the room.
#[utoipa::path(
    tag = "presence",
    request_body = JoinRoomsBody,
    responses((status = 200, description = "What became of each; committed.", body = JoinedRooms), JoinRoomsProblems),
    security(("token" = []), ("server_key" = []))
)]
#[post("/v1/join")]
pub async fn join_rooms(
    service: web::Data<Service>,
    caller: Caller,
    Body(body): Body<JoinRoomsBody>,
) -> Result<web::Json<JoinedRooms>, Problem> {
    service.limits.write(caller.subject())?;
    service.limits.session_write(caller.subject(), body.session)?;
    let named = check(body.rooms)?;
    service.limits.cause(caller.subject(), named.len())?;
    let user = caller.user(body.user)?;
    let claims = caller.claims();
    let state = member_state::check(body.state)?;
    let join = |room| Join {
        room,
        user: user.clone(),
        session: body.session,
        seq: body.seq,
        name: claims.and_then(|c| c.name.clone()),
        avatar_url: claims.and_then(|c| c.avatar_url.clone()),
        issued_at: issued_at(claims),
        status: body.status,
        state: state.clone(),
        visible: body.visible,
        issued: claims.map(Claims::issued),
        limited: claims.is_some(),
        invisible: body.invisible,
    };
    let allowed = |room: &String| {
        let room = RoomId::parse(room)?;
        caller.may(Right::Join, &room).map(|()| room)
    };
    let checked: Vec<Result<RoomId, Problem>> = named.iter().map(allowed).collect();
    let joins: Vec<Join> = checked.iter().filter_map(|room| room.as_ref().ok()).cloned().map(join).collect();
    let mut results =
        if joins.is_empty() { Vec::new() } else { service.commands.join_rooms(joins).await? }.into_iter();
    let results: Vec<Result<_, Problem>> = checked
        .into_iter()
        .map(|room| room.and_then(|_| Ok(results.next().ok_or(Code::Internal)??)))
        .collect();
    service.checked.forget(body.session);
    let profile_events = results.iter().flatten().map(|answer| answer.profile_events).sum();
    service.limits.have_caused(caller.subject(), profile_events);
    let advice = advise(&service, &results, body.visible);
    let rooms = named.into_iter().zip(results).map(|(room, result)| JoinedRoom::of(room, result)).collect();
    Ok(web::Json(JoinedRooms {
        rooms,
        heartbeat_ms: millis(advice.heartbeat),
        lease_ms: millis(advice.lease),
    }))
}

impl JoinedRoom {
    fn of(room: String, result: Result<Answer, Problem>) -> Self {
        match result {
            Ok(answer) => Self {
                room,
                cursor: Some(answer.cursor.to_string()),
                created: answer.created,
                member: answer.member,
                problem: None,
            },
            Err(problem) => {
                Self { room, cursor: None, created: false, member: None, problem: Some(problem.body()) }
            }
        }
    }
}

/// For the room that needs most.
fn advise(service: &Service, results: &[Result<Answer, Problem>], visible: Option<bool>) -> Advice {
    let (pace, spread) = (service.commands.pace(), spread());
    let usual = pace.advise(visible.unwrap_or(true), None, spread);
    let leases = results.iter().flatten().filter_map(|answer| answer.session);
    leases.map(|session| pace.advise(session.visible, Some(session.lease), spread)).fold(
        usual,
        |least, one| Advice {
            heartbeat: least.heartbeat.min(one.heartbeat),
            lease: least.lease.min(one.lease),
        },
    )
}

/// The rooms of a request, each once, where it was first named.
pub(super) fn check(rooms: Vec<String>) -> Result<Vec<String>, Problem> {
    if rooms.is_empty() || rooms.len() > ROOMS_MAX {
        return Err(Problem::with(Code::InvalidBody, format!("rooms are 1 to {ROOMS_MAX}")));
    }
    let mut seen = HashSet::with_capacity(rooms.len());
    Ok(rooms.into_iter().filter(|room| seen.insert(room.clone())).collect())
}
