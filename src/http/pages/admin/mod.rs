//! The operators' page. It holds no secret: the operator types the server key in, and the page sends it with
//! each call.

use actix_web::{HttpResponse, get, web};

use super::assets;
use crate::http::request::audience::Audience;
use crate::http::request::problem::Problem;

#[get("/admin")]
async fn index(audience: web::Data<Audience>) -> Result<HttpResponse, Problem> {
    audience.must_be_operators()?;
    Ok(assets::html(include_str!("index.html")))
}

#[get("/admin.css")]
async fn style() -> HttpResponse {
    assets::style(include_str!("admin.css"))
}

#[get("/admin.js")]
async fn script() -> HttpResponse {
    assets::script(include_str!("admin.js"))
}

pub fn configure(config: &mut web::ServiceConfig) {
    config.service(index).service(style).service(script);
}
