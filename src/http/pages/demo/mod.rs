//! What only `headcount dev` serves: tokens for anybody, and the demo page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};

use super::assets;
use crate::auth::{Claims, Rights};
use crate::domain::id::UserId;
use crate::http::request::body::Body;
use crate::http::request::problem::{Code, Problem};
use crate::http::service::Service;

/// How long a development token is good for.
const TOKEN_TTL: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    user: UserId,
    name: Option<String>,
    /// The claim `rooms`: all rooms when not given, so that what comes out says what it allows.
    #[serde(default = "Rights::everywhere")]
    rooms: Rights,
}

#[derive(Serialize)]
struct Minted {
    token: String,
}

#[post("/dev/token")]
async fn token(
    service: web::Data<Service>,
    Body(body): Body<TokenBody>,
) -> Result<web::Json<Minted>, Problem> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let exp = now + TOKEN_TTL.as_secs();
    let claims = Claims { iat: Some(now), name: body.name, rooms: body.rooms, ..Claims::new(body.user, exp) };
    Ok(web::Json(Minted { token: service.mint.as_ref().ok_or(Code::NotFound)?.mint(&claims) }))
}

#[get("/")]
async fn index() -> HttpResponse {
    assets::html(include_str!("index.html"))
}

#[get("/demo.css")]
async fn style() -> HttpResponse {
    assets::style(include_str!("demo.css"))
}

#[get("/demo.js")]
async fn script() -> HttpResponse {
    assets::script(include_str!("demo.js"))
}

pub fn configure(config: &mut web::ServiceConfig) {
    config.service(token).service(index).service(style).service(script);
}
