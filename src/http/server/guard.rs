//! The checks and headers of every request: the rate limit by address, CORS (which origins may call), and
//! content security policies (what our own pages may load).

use std::sync::Arc;

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::observe::REQUEST_ID;
use crate::http::request::quota;
use crate::http::service::Service;
use crate::settings::Origins;

/// An answer of the API is no page: it may load nothing and be shown in no frame.
const API_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The docs page brings its own scripts; its styles are partly inline.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

/// Among the data of an app that speaks TLS: browsers are told to come by TLS only.
#[derive(Clone, Copy)]
pub struct Encrypted;

/// Origins that may call from a browser: those that the settings allow, and in `dev` any page of this machine. Credentials
/// are not cookies, so they are not allowed to go along, and the list of headers guards nothing: tracers and frameworks
/// add theirs, so any may be sent.
pub fn cors(origins: Arc<Origins>, dev: bool) -> Cors {
    let allowed = move |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| origins.allow(origin));
    Cors::default()
        .allowed_methods(["GET", "POST", "PUT", "PATCH", "DELETE"])
        .allow_any_header()
        .expose_headers([ETAG, RETRY_AFTER, REQUEST_ID, quota::RATE_LIMIT, quota::RATE_LIMIT_POLICY])
        .block_on_origin_mismatch(false)
        .max_age(3600)
        .allowed_origin_fn(move |origin, _| allowed(origin) || dev && is_local(origin))
}

fn is_local(origin: &HeaderValue) -> bool {
    let host = |text: &str| {
        text.split("://").nth(1).map(|rest| rest.split(':').next().unwrap_or_default().to_owned())
    };
    origin.to_str().ok().and_then(host).is_some_and(|host| host == "localhost" || host == "127.0.0.1")
}

fn is_stream(path: &str) -> bool {
    path.ends_with("/events") || path.ends_with("/stream")
}

/// Limits requests by address, and sets the headers that every answer has, and those of the limits that were applied.
pub async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let service = request.app_data::<web::Data<Service>>().expect("registered when the app is built").clone();
    let docs = request.path().starts_with("/docs");
    let api = request.path().starts_with("/v1/") || request.path().starts_with("/dev/");
    let encrypted = request.app_data::<Encrypted>().is_some();
    // HEAD is routed as GET, and the server leaves the body out. Not for a stream, which is nothing but its
    // body.
    if request.method() == Method::HEAD && !is_stream(request.path()) {
        request.head_mut().method = Method::GET;
    }
    let answering = async {
        service.limits.request(request.request())?;
        next.call(request).await
    };
    let (answer, quotas) = quota::noting(answering).await;
    let mut response = answer?;
    let headers = response.headers_mut();
    quota::tell(&quotas, headers);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if api && !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store")); // it says where people are
    }
    if encrypted {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, if docs { DOCS_POLICY } else { API_POLICY });
    }
    Ok(response)
}
