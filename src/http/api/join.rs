//! `POST /v1/rooms/{room}/join`

use actix_web::{post, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::auth::{Claims, Right};
use crate::commands::join::Join;
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::member::{Member, Status};
use crate::http::request::body::Body;
use crate::http::request::caller::Caller;
use crate::http::request::member_state;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// A join.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinBody {
    /// The session: a random UUID (version 4 or 7), made by the client once per tab or device.
    #[schema(value_type = uuid::Uuid, pattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[47][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$", example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// As it was when not given. A session that never named one takes no part in what others see, unless none of the
    /// user's has; then they are `online`, or `idle` when not active.
    status: Option<Status>,
    /// Any JSON of at most 1 KiB as it is stored (`{"a": 1}`), in at most 32 levels, with numbers of at most 32
    /// characters written out; unchanged if not given.
    #[schema(value_type = Value, required = false, example = json!({"typing": false}))]
    state: Option<Box<RawValue>>,
    /// Whether the page is visible. Hidden sessions send heartbeats less often and have a longer lease.
    #[schema(example = true)]
    visible: Option<bool>,
    /// Whether this session is invisible to others in the room: in no roster, count or event. If not given:
    /// `false` at first, then unchanged.
    #[schema(example = false)]
    invisible: Option<bool>,
    /// Increases with each new call of the session. A call with a lower number than the newest seen is a
    /// no-op.
    #[schema(example = 1)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    seq: Option<i64>,
    /// The user. Required with the server key, and refused with a token.
    user: Option<UserId>,
}

/// The answer to a join.
#[derive(Serialize, ToSchema)]
pub struct Joined {
    /// The room's position, at or past this join: a stream resumed from here misses nothing.
    #[schema(example = "1f0c2a910.42")]
    cursor: String,
    /// Whether this call made the user a member that others see; false for a further tab, for a retry, and
    /// for an invisible session.
    created: bool,
    /// The member; null if the join was older than a leave already seen.
    member: Option<Member>,
    /// Send the next heartbeat after this many milliseconds.
    #[schema(example = 15000)]
    heartbeat_ms: u64,
    /// Without a heartbeat the session ends after this many milliseconds.
    #[schema(example = 45000)]
    lease_ms: u64,
}

problems!(JoinProblems: InvalidJson InvalidBody InvalidRoom InvalidState UserRequired MissingToken InvalidToken
    ExpiredToken UserNotAllowed RoomNotFound SessionNotFound BodyTimeout BodyTooLarge StateTooLarge UnsupportedType
    TooManyWrites TooManySessionWrites TooManyEvents TooManyRooms TooManySessions RoomFull RoomBusy Overloaded Unavailable OutcomeUnknown);

/// Join a room
///
/// Makes the session present; the user becomes a member with their first session, and every watcher sees
/// `joined`. May be repeated: that is the retry of the same join. The token's `name` and `avatar_url` become the
/// user's profile, unless `PUT` has set one since the token was issued (`iat`). A change of it is an event in each of the
/// user's rooms, and is charged as so many. With `invisible`, nobody is told but the user and the server key, in what they ask for; streams show
/// invisible members to nobody. A user with a visible session in the room is seen by that one. Right: `join` in the
/// room.
#[utoipa::path(
    tag = "presence",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby")),
    request_body = JoinBody,
    responses((status = 200, description = "Present, and committed.", body = Joined), JoinProblems),
    security(("token" = []), ("server_key" = []))
)]
#[post("/v1/rooms/{room}/join")]
pub async fn join(
    service: web::Data<Service>,
    caller: Caller,
    room: web::Path<String>,
    Body(body): Body<JoinBody>,
) -> Result<web::Json<Joined>, Problem> {
    service.limits.write(caller.subject())?;
    service.limits.session_write(caller.subject(), body.session)?;
    service.limits.cause(caller.subject(), 1)?;
    let room = RoomId::parse(&room)?;
    caller.may(Right::Join, &room)?;
    if !body.session.is_random() {
        return Err(Problem::with(Code::InvalidBody, "session is not a random UUID (version 4 or 7)"));
    }
    let user = caller.user(body.user)?;
    let (session, claims) = (body.session, caller.claims());
    let answer = service
        .commands
        .join(Join {
            room,
            user,
            session: body.session,
            seq: body.seq,
            name: claims.and_then(|c| c.name.clone()),
            avatar_url: claims.and_then(|c| c.avatar_url.clone()),
            issued_at: issued_at(claims),
            status: body.status,
            state: member_state::check(body.state)?,
            visible: body.visible,
            issued: claims.map(Claims::issued),
            limited: claims.is_some(),
            invisible: body.invisible,
        })
        .await?;
    service.checked.forget(session);
    service.limits.have_caused(caller.subject(), answer.profile_events);
    let visible = answer.session.map_or(body.visible.unwrap_or(true), |session| session.visible);
    let own = answer.session.map(|session| session.lease);
    let advice = service.commands.pace().advise(visible, own, spread());
    Ok(web::Json(Joined {
        cursor: answer.cursor.to_string(),
        created: answer.created,
        member: answer.member,
        heartbeat_ms: millis(advice.heartbeat),
        lease_ms: millis(advice.lease),
    }))
}

/// When the token that brings a profile was issued. One that does not say is older than anything that was set.
pub(super) fn issued_at(claims: Option<&Claims>) -> Option<u64> {
    claims.filter(|c| c.name.is_some() || c.avatar_url.is_some()).map(|c| c.iat.unwrap_or_default())
}

/// Jitter for [`crate::domain::lease::Pace::advise`].
pub(super) fn spread() -> f64 {
    rand::random_range(-1.0..=1.0)
}

/// A duration as it crosses the wire.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
