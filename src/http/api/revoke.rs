//! `POST /v1/users/{id}/revoke`

use actix_web::{post, web};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::id::UserId;
use crate::http::request::caller::Caller;
use crate::http::request::problem::Problem;
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// The answer to a revocation.
#[derive(Serialize, ToSchema)]
pub struct Revoked {
    /// Tokens whose `iat` is before this whole second are refused.
    #[serde(with = "crate::domain::timestamp")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:10:01.000Z")]
    not_before: OffsetDateTime,
}

problems!(RevokeProblems: InvalidUser MissingToken InvalidToken ExpiredToken ServerOnly RoomBusy Overloaded Unavailable
    OutcomeUnknown);

/// Revoke a user's tokens
///
/// Ends all sessions of the user, with `left {kicked}`, and their streams, with `bye {revoked}`. Their tokens and tickets
/// issued before `not_before` are refused with `token_revoked`: at this replica when this call answers, at every other
/// within 2 s. A token says in whole seconds when it was issued (`iat`), so `not_before` is the next whole second: a token
/// of the same second may be older, and is refused. A token without `iat` is refused for a user who was ever revoked. Whether
/// the user gets a new token is the application's to decide. Idempotent. Right: server key.
#[utoipa::path(
    tag = "users",
    params(("id" = inline(UserId), Path, description = "The user.", example = "ann")),
    responses((status = 200, description = "Revoked, and committed.", body = Revoked), RevokeProblems),
    security(("server_key" = []))
)]
#[post("/v1/users/{id}/revoke")]
pub async fn revoke(
    service: web::Data<Service>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<web::Json<Revoked>, Problem> {
    let id = UserId::parse(&id)?;
    caller.must_be_server()?;
    let not_before = service.commands.revoke(id).await?;
    service.follow_barred().await;
    Ok(web::Json(Revoked { not_before }))
}
