//! `POST /v1/leave`: many rooms of one session, or all, in one request and one transaction.

use actix_web::{HttpRequest, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::join_rooms::check;
use super::leave::foreign_rooms;
use crate::commands::many_rooms::LeaveRooms;
use crate::commands::writer::CommandResult;
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::http::request::body::{self, BODY_MAX, media_type};
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem, ProblemBody};
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// A leave of many rooms.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaveRoomsBody {
    /// The session.
    #[schema(value_type = uuid::Uuid, example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// 1 to 100 rooms, each answered once; all rooms of the session when not given.
    #[schema(min_items = 1, max_items = 100, example = json!(["lobby", "team:1"]))]
    rooms: Option<Vec<String>>,
    /// Wait 5 s for a join of the same user before it counts: for a page that closes, so that a reload is silent.
    #[schema(example = false)]
    #[serde(default)]
    grace: bool,
    /// Increasing per session: an older one than the newest seen changes nothing.
    #[schema(example = 2)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    seq: Option<i64>,
    /// Under the server key only: for whom.
    user: Option<UserId>,
}

/// A leave of a page that closes: `sendBeacon` cannot set headers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BeaconRoomsBody {
    /// The token.
    #[schema(required = true, value_type = String)]
    token: Option<String>,
    /// The session.
    #[schema(value_type = uuid::Uuid, example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// 1 to 100 rooms, each answered once; all rooms of the session when not given.
    #[schema(min_items = 1, max_items = 100, example = json!(["lobby", "team:1"]))]
    rooms: Option<Vec<String>>,
    /// Wait 5 s for a join of the same user before it counts, so that a reload is silent.
    #[schema(example = true)]
    #[serde(default)]
    grace: bool,
    /// Increasing per session: an older one than the newest seen changes nothing.
    #[schema(example = 2)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    seq: Option<i64>,
}

/// What became of a leave in one of the rooms.
#[derive(Serialize, ToSchema)]
pub struct LeftRoom {
    /// The room.
    #[schema(example = "lobby")]
    room: String,
    /// The room's position, at or past this leave; null when it failed.
    #[schema(example = "1f0c2a910.43")]
    cursor: Option<String>,
    /// Why it failed; null when it did not.
    problem: Option<ProblemBody>,
}

/// The answer to a leave of many rooms.
#[derive(Serialize, ToSchema)]
pub struct LeftRooms {
    /// One for each different room, in the order of the request, or of the room keys when none were named.
    rooms: Vec<LeftRoom>,
}

problems!(LeaveRoomsProblems: InvalidJson InvalidBody UserRequired MissingToken InvalidToken ExpiredToken UserNotAllowed
    BodyTimeout BodyTooLarge UnsupportedType TooManyWrites TooManySessionWrites Overloaded Unavailable OutcomeUnknown);

/// Be present in many rooms no longer
///
/// As a leave of each of the rooms, in one transaction; of all rooms that the session is in when none are named. So a
/// closing page needs one call, which fits into what browsers send then: `fetch` with `keepalive`, or `sendBeacon` with a
/// body of `text/plain`, which is JSON with the `token` in it. Right: own sessions, or any under the server key.
#[utoipa::path(
    tag = "presence",
    request_body(content((LeaveRoomsBody = "application/json"), (BeaconRoomsBody = "text/plain"))),
    responses((status = 200, description = "What became of each; committed.", body = LeftRooms), LeaveRoomsProblems),
    security(("token" = []), ("server_key" = []), ())
)]
#[post("/v1/leave")]
pub async fn leave_rooms(
    service: web::Data<Service>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<web::Json<LeftRooms>, Problem> {
    let bytes = body::read(payload.into_inner(), BODY_MAX).await?;
    let (caller, body) = match media_type(&request).as_str() {
        "application/json" => {
            let caller = Caller::from_header(&request).await?;
            (caller, body::parse::<LeaveRoomsBody>(&bytes)?)
        }
        "text/plain" => {
            let BeaconRoomsBody { token, session, rooms, grace, seq } = body::parse(&bytes)?;
            let token = token.ok_or(Code::MissingToken)?;
            let body = LeaveRoomsBody { session, rooms, grace, seq, user: None };
            (Caller::from_credential(&service, &token).await?, body)
        }
        _ => return Err(Code::UnsupportedType.into()),
    };
    service.limits.write(caller.subject())?;
    service.limits.session_write(caller.subject(), body.session)?;
    let user = caller.user(body.user)?;
    let leave = LeaveRooms { rooms: None, user, session: body.session, seq: body.seq, grace: body.grace };
    let rooms = match body.rooms {
        None => left(service.commands.leave_rooms(leave).await?),
        Some(rooms) => leave_named(&service, &caller, leave, rooms).await?,
    };
    service.limits.have_caused(caller.subject(), rooms.len()); // afterwards: a leave is never refused for it
    Ok(web::Json(LeftRooms { rooms }))
}

async fn leave_named(
    service: &Service,
    caller: &Caller,
    leave: LeaveRooms,
    rooms: Vec<String>,
) -> Result<Vec<LeftRoom>, Problem> {
    let rooms = check(rooms)?;
    let parsed: Vec<_> = rooms.iter().map(|room| RoomId::parse(room).map_err(Problem::from)).collect();
    let named: Vec<RoomId> = parsed.iter().filter_map(|room| room.as_ref().ok()).cloned().collect();
    let foreign = foreign_rooms(service, caller, &leave.user, leave.session, &named).await?;
    let own = |room: RoomId| if foreign.contains(&room) { Err(Code::RoomNotFound.into()) } else { Ok(room) };
    let parsed: Vec<Result<RoomId, Problem>> = parsed.into_iter().map(|room| room.and_then(own)).collect();
    let valid = parsed.iter().filter_map(|room| room.as_ref().ok()).cloned().collect();
    let mut results =
        left(service.commands.leave_rooms(LeaveRooms { rooms: Some(valid), ..leave }).await?).into_iter();
    let of_each = rooms.into_iter().zip(parsed).map(|(room, parsed)| match parsed {
        Ok(_) => results.next().ok_or(Code::Internal.into()),
        Err(error) => Ok(LeftRoom { room, cursor: None, problem: Some(error.body()) }),
    });
    of_each.collect()
}

fn left(results: Vec<(RoomId, CommandResult)>) -> Vec<LeftRoom> {
    let of_one = |(room, result): (RoomId, CommandResult)| match result {
        Ok(answer) => {
            LeftRoom { room: room.to_string(), cursor: Some(answer.cursor.to_string()), problem: None }
        }
        Err(error) => {
            LeftRoom { room: room.to_string(), cursor: None, problem: Some(Problem::from(error).body()) }
        }
    };
    results.into_iter().map(of_one).collect()
}
