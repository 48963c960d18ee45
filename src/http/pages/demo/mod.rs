//! Served by `headcount dev` only: tokens for anybody, and the demo page.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::HOST;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
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
    /// The claim `rooms`: all rooms if not given, so that the token itself says what it allows.
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
    request: HttpRequest,
    Body(body): Body<TokenBody>,
) -> Result<web::Json<Minted>, Problem> {
    if !names_this_machine(
        request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost"),
    ) {
        return Err(Code::ForeignHost.into());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let exp = now + TOKEN_TTL.as_secs();
    let claims = Claims { iat: Some(now), name: body.name, rooms: body.rooms, ..Claims::new(body.user, exp) };
    Ok(web::Json(Minted { token: service.mint.as_ref().ok_or(Code::NotFound)?.mint(&claims) }))
}

/// A page of another site can make its name lead here (DNS rebinding), and then reads what it is answered; but its
/// requests still say that name. An address is no name.
fn names_this_machine(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let bare = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = bare.map_or(host, |(name, _)| name).trim_matches(['[', ']']).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
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

#[cfg(test)]
mod tests {
    use super::names_this_machine;

    #[test]
    fn only_names_of_this_machine_are_taken_for_it() {
        for host in ["localhost", "LOCALHOST:8080", "demo.localhost:1", "127.0.0.1:8080", "[::1]:8080", "::1"]
        {
            assert!(names_this_machine(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""]
        {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
