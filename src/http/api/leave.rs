//! `POST /v1/rooms/{room}/leave`

use actix_web::{HttpRequest, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Right;
use crate::commands::leave::Leave;
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::http::request::body::{self, BODY_MAX, media_type};
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// A leave.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaveBody {
    /// The session.
    #[schema(value_type = uuid::Uuid, example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// Debounce: the leave counts only if the same user does not join again within 5 s (by default). For a
    /// page that closes, so that a reload is silent.
    #[schema(example = false)]
    #[serde(default)]
    grace: bool,
    /// Increases with each new call of the session. A call with a lower number than the newest seen is a
    /// no-op.
    #[schema(example = 2)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    seq: Option<i64>,
    /// The user. Required with the server key, and refused with a token.
    user: Option<UserId>,
}

/// A leave of a page that closes: `sendBeacon` cannot set headers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BeaconBody {
    /// The token.
    #[schema(required = true, value_type = String)]
    token: Option<String>,
    /// The session.
    #[schema(value_type = uuid::Uuid, example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// Debounce: the leave counts only if the same user does not join again within 5 s (by default), so that
    /// a reload is silent.
    #[schema(example = true)]
    #[serde(default)]
    grace: bool,
    /// Increases with each new call of the session. A call with a lower number than the newest seen is a
    /// no-op.
    #[schema(example = 2)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    seq: Option<i64>,
}

/// The answer to a leave.
#[derive(Serialize, ToSchema)]
pub struct Left {
    /// The room's position, at or past this leave.
    #[schema(example = "1f0c2a910.43")]
    cursor: String,
}

problems!(LeaveProblems: InvalidJson InvalidBody InvalidRoom UserRequired MissingToken InvalidToken ExpiredToken
    UserNotAllowed RoomNotFound SessionNotFound BodyTimeout BodyTooLarge UnsupportedType TooManyWrites TooManySessionWrites RoomBusy Overloaded
    Unavailable OutcomeUnknown);

/// Leave a room
///
/// Idempotent: leaving a room that the session is not in succeeds. When the user's last session leaves, they
/// are no longer a member, and every watcher sees `left`. A closing page uses `fetch` with `keepalive`, or
/// `sendBeacon` with a body of `text/plain`, which is JSON with the `token` in it. Right: `join` in the room, or a session that
/// is there: nobody must stay in a room because their rights there have ended.
#[utoipa::path(
    tag = "presence",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby")),
    request_body(content((LeaveBody = "application/json"), (BeaconBody = "text/plain"))),
    responses((status = 200, description = "Absent, and committed.", body = Left), LeaveProblems),
    security(("token" = []), ("server_key" = []), ())
)]
#[post("/v1/rooms/{room}/leave")]
pub async fn leave(
    service: web::Data<Service>,
    request: HttpRequest,
    room: web::Path<String>,
    payload: web::Payload,
) -> Result<web::Json<Left>, Problem> {
    let bytes = body::read(payload.into_inner(), BODY_MAX).await?;
    let (caller, body) = match media_type(&request).as_str() {
        "application/json" => {
            let caller = Caller::from_header(&request).await?;
            (caller, body::parse::<LeaveBody>(&bytes)?)
        }
        "text/plain" => {
            let BeaconBody { token, session, grace, seq } = body::parse(&bytes)?;
            let token = token.ok_or(Code::MissingToken)?;
            (Caller::from_credential(&service, &token).await?, LeaveBody { session, grace, seq, user: None })
        }
        _ => return Err(Code::UnsupportedType.into()),
    };
    service.limits.write(caller.subject())?;
    service.limits.session_write(caller.subject(), body.session)?;
    let room = RoomId::parse(&room)?;
    let user = caller.user(body.user)?;
    if !foreign_rooms(&service, &caller, &user, body.session, std::slice::from_ref(&room)).await?.is_empty() {
        return Err(Code::RoomNotFound.into());
    }
    let leave = Leave { room, user, session: body.session, seq: body.seq, grace: body.grace };
    let answer = service.commands.leave(leave).await?;
    Ok(web::Json(Left { cursor: answer.cursor.to_string() }))
}

/// Those of the rooms that do not exist for the caller: their token does not allow them, and their session is not there.
/// Their position would be told else. Costs a look at the database only where the token does not allow a room.
pub(super) async fn foreign_rooms(
    service: &Service,
    caller: &Caller,
    user: &UserId,
    session: SessionId,
    rooms: &[RoomId],
) -> Result<Vec<RoomId>, Problem> {
    let mut foreign: Vec<RoomId> =
        rooms.iter().filter(|room| caller.may(Right::Join, room).is_err()).cloned().collect();
    if !foreign.is_empty() {
        let there = service.commands.rooms_of_session(session, user.clone()).await?;
        foreign.retain(|room| !there.contains(room));
    }
    Ok(foreign)
}
