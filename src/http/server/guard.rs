//! What browsers must be told: which pages of other origins may call, and what our own pages may load.

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::observe::REQUEST_ID;
use crate::http::request::quota;
use crate::http::service::Service;

/// An answer of the API is no page: it may load nothing and be shown in no frame.
const API_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The docs page brings its own scripts; its styles are partly inline.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

/// Origins that may call from a browser: exactly these, and in `dev` any page of this machine. Credentials are not
/// cookies, so they are not allowed to go along.
pub fn cors(origins: &[String], dev: bool) -> Cors {
    let cors = Cors::default()
        .allowed_methods(["GET", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers([AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH])
        .allowed_headers(["last-event-id", "traceparent", "tracestate"])
        .allowed_header(REQUEST_ID)
        .expose_headers([ETAG, RETRY_AFTER, REQUEST_ID, quota::RATE_LIMIT, quota::RATE_LIMIT_POLICY])
        .block_on_origin_mismatch(false)
        .max_age(3600);
    let cors = origins
        .iter()
        .filter(|origin| !origin.is_empty())
        .fold(cors, |cors, origin| cors.allowed_origin(origin));
    if dev { cors.allowed_origin_fn(|origin, _| is_local(origin)) } else { cors }
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
    // Answered as GET is, without the body; the server leaves that out. A stream has nothing else to give.
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
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, if docs { DOCS_POLICY } else { API_POLICY });
    }
    Ok(response)
}
