//! Serves our own pages, with a content security policy: only their own scripts run, and no other site can
//! frame them.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};

const POLICY: &str = "default-src 'self'; img-src 'self' https: data:; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'; object-src 'none'";

pub fn html(content: &'static str) -> HttpResponse {
    asset("text/html; charset=utf-8", content)
}

pub fn style(content: &'static str) -> HttpResponse {
    asset("text/css; charset=utf-8", content)
}

pub fn script(content: &'static str) -> HttpResponse {
    asset("text/javascript; charset=utf-8", content)
}

fn asset(content_type: &'static str, content: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(content)
}
