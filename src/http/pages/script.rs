//! `GET /headcount.js`: the browser library, for a script tag. Written by `make client` and committed, so that cargo
//! builds without Node; a test of the library says when it is out of date.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpResponse, get, web};

#[get("/headcount.js")]
async fn script() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache")) // the library must fit the service
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(include_str!("headcount.js"))
}

pub fn configure(config: &mut web::ServiceConfig) {
    config.service(script);
}
