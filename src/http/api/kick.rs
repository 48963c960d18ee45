//! `POST /v1/rooms/{room}/kick`

use actix_web::{post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Right;
use crate::domain::id::{RoomId, UserId};
use crate::http::request::body::Body;
use crate::http::request::caller::Caller;
use crate::http::request::problem::Problem;
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// A kick.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KickBody {
    /// The user.
    user: UserId,
}

/// The answer to a kick.
#[derive(Serialize, ToSchema)]
pub struct Kicked {
    /// The room's position, at or past this kick.
    #[schema(example = "1f0c2a910.45")]
    cursor: String,
}

problems!(KickProblems: InvalidJson InvalidBody InvalidRoom MissingToken InvalidToken ExpiredToken RoomNotFound
    BodyTimeout BodyTooLarge UnsupportedType TooManyWrites RoomBusy Overloaded Unavailable OutcomeUnknown);

/// Remove a member
///
/// Ends all of a user's sessions in the room, with `left {kicked}`. Idempotent: succeeds if they are not
/// there. They can join again as long as their token allows it. Right: `admin` in the room, or server key.
#[utoipa::path(
    tag = "presence",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby")),
    request_body = KickBody,
    responses((status = 200, description = "Absent, and committed.", body = Kicked), KickProblems),
    security(("token" = []), ("server_key" = []))
)]
#[post("/v1/rooms/{room}/kick")]
pub async fn kick(
    service: web::Data<Service>,
    caller: Caller,
    room: web::Path<String>,
    Body(body): Body<KickBody>,
) -> Result<web::Json<Kicked>, Problem> {
    service.limits.write(caller.subject())?;
    let room = RoomId::parse(&room)?;
    caller.may(Right::Admin, &room)?;
    let answer = service.commands.kick(room, body.user).await?;
    Ok(web::Json(Kicked { cursor: answer.cursor.to_string() }))
}
