//! `POST /v1/tickets`

use std::time::SystemTime;

use actix_web::{post, web};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::events::ROOMS_MAX;
use crate::auth::Right;
use crate::domain::id::{RoomId, UserId};
use crate::http::request::body::Body;
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// The rooms of a ticket.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketBody {
    /// 1 to 32 rooms.
    #[schema(example = json!(["lobby"]), min_items = 1, max_items = 32)]
    rooms: Vec<RoomId>,
    /// Under the server key only: for whom. The ticket is nobody's when not given, and then sees what everybody does.
    user: Option<UserId>,
}

/// A ticket.
#[derive(Serialize, ToSchema)]
pub struct Ticket {
    /// Put it into the stream's address: `?ticket=`.
    #[schema(example = "hct_eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.e30.c2ln")]
    ticket: String,
    /// When it expires. A stream that it opened ends then, with `bye {token_expired}`.
    #[serde(with = "crate::domain::timestamp")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:10:00.000Z")]
    expires_at: OffsetDateTime,
}

problems!(TicketProblems: InvalidJson InvalidBody MissingToken InvalidToken ExpiredToken UserNotAllowed RoomNotFound BodyTimeout
    BodyTooLarge UnsupportedType);

/// Get a ticket for a browser's own `EventSource`
///
/// `EventSource` cannot send an `Authorization` header, and a token must not be in an address, where it would
/// end up in logs. A ticket may: it permits watching the rooms it names, on any replica, and nothing else. It
/// lasts ten minutes, but no longer than the token with which it was requested. Right: `watch` in each room.
#[utoipa::path(
    tag = "streams",
    request_body = TicketBody,
    responses((status = 200, description = "A ticket.", body = Ticket), TicketProblems),
    security(("token" = []), ("server_key" = []))
)]
#[post("/v1/tickets")]
pub async fn tickets(
    service: web::Data<Service>,
    caller: Caller,
    Body(body): Body<TicketBody>,
) -> Result<web::Json<Ticket>, Problem> {
    if body.rooms.is_empty() || body.rooms.len() > ROOMS_MAX {
        return Err(Problem::with(Code::InvalidBody, format!("rooms are 1 to {ROOMS_MAX}")));
    }
    for room in &body.rooms {
        caller.may(Right::Watch, room)?;
    }
    let user = match (caller.claims(), body.user) {
        (None, named) => named,
        (Some(claims), None) => Some(claims.sub.clone()),
        (Some(_), Some(_)) => return Err(Code::UserNotAllowed.into()),
    };
    let keys = service.keys.tickets();
    let (ticket, expires) = keys.mint(user.as_ref(), &body.rooms, caller.claims(), SystemTime::now());
    let expires_at = i64::try_from(expires).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    Ok(web::Json(Ticket { ticket, expires_at: expires_at.ok_or(Code::Internal)? }))
}
