//! The operators' page. It holds no secret: whoever uses it types the server key in, and the page sends that along.

use actix_web::{HttpResponse, get, web};

use super::operators::Audience;
use super::page;
use super::problem::Problem;

#[get("/admin")]
async fn index(audience: web::Data<Audience>) -> Result<HttpResponse, Problem> {
    audience.must_be_operators()?;
    Ok(page::html(include_str!("admin/index.html")))
}

#[get("/admin.css")]
async fn style() -> HttpResponse {
    page::style(include_str!("admin/admin.css"))
}

#[get("/admin.js")]
async fn script() -> HttpResponse {
    page::script(include_str!("admin/admin.js"))
}

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(index).service(style).service(script);
}
