//! `PATCH /v1/rooms/{room}/presence`

use actix_web::{patch, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::auth::Right;
use crate::commands::update::Update;
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::member::{Member, Status};
use crate::http::request::body::Body;
use crate::http::request::caller::Caller;
use crate::http::request::member_state;
use crate::http::request::problem::Problem;
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// An update.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateBody {
    /// The session.
    #[schema(value_type = uuid::Uuid, example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// Unchanged if not given.
    status: Option<Status>,
    /// Any JSON of at most 1 KiB as it is stored (`{"a": 1}`), in at most 32 levels, with numbers of at most 32
    /// characters written out; unchanged if not given.
    #[schema(value_type = Value, required = false, example = json!({"typing": true}))]
    state: Option<Box<RawValue>>,
    /// Whether this session is invisible to others in the room; unchanged if not given. Everybody else sees
    /// `left` for a member that becomes invisible, and `joined` for one that becomes visible.
    #[schema(example = false)]
    invisible: Option<bool>,
    /// Increases with each new call of the session. A call with a lower number than the newest seen is a
    /// no-op.
    #[schema(example = 3)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    seq: Option<i64>,
    /// The user. Required with the server key, and refused with a token.
    user: Option<UserId>,
}

/// The answer to an update.
#[derive(Serialize, ToSchema)]
pub struct Updated {
    /// The room's position, at or past this update.
    #[schema(example = "1f0c2a910.44")]
    cursor: String,
    /// The member as they see themselves now: as everybody does, unless `invisible`.
    member: Option<Member>,
}

problems!(UpdateProblems: InvalidJson InvalidBody InvalidRoom InvalidState UserRequired MissingToken InvalidToken
    ExpiredToken UserNotAllowed RoomNotFound SessionNotFound BodyTimeout BodyTooLarge StateTooLarge UnsupportedType
    TooManyWrites TooManySessionWrites TooManyEvents RoomFull RoomBusy Overloaded Unavailable OutcomeUnknown);

/// Change status or state
///
/// Every watcher sees one `updated` if anything that shows has changed, never a leave and a join; but `left`
/// for a member that becomes invisible, and `joined` for one that becomes visible again. Right: `join` in the
/// room.
#[utoipa::path(
    tag = "presence",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby")),
    request_body = UpdateBody,
    responses((status = 200, description = "Changed, and committed.", body = Updated), UpdateProblems),
    security(("token" = []), ("server_key" = []))
)]
#[patch("/v1/rooms/{room}/presence")]
pub async fn update(
    service: web::Data<Service>,
    caller: Caller,
    room: web::Path<String>,
    Body(body): Body<UpdateBody>,
) -> Result<web::Json<Updated>, Problem> {
    service.limits.write(caller.subject())?;
    service.limits.session_write(caller.subject(), body.session)?;
    service.limits.cause(caller.subject(), 1)?;
    let room = RoomId::parse(&room)?;
    caller.may(Right::Join, &room)?;
    let user = caller.user(body.user)?;
    let state = member_state::check(body.state)?;
    let UpdateBody { session, seq, status, invisible, .. } = body;
    let update = Update { room, user, session, seq, status, state, invisible };
    let answer = service.commands.update(update).await?;
    Ok(web::Json(Updated { cursor: answer.cursor.to_string(), member: answer.member }))
}
