//! `/livez`, `/readyz`, `/metrics`

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::Service;
use super::problem::{Code, Problem, ProblemBody};

/// Whether this listener may tell what only operators should know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// No other listener does: everybody may ask.
    Everybody,
    /// Operators have a listener of their own, and this is not it.
    Clients,
}

impl Audience {
    /// Elsewhere it looks as if this did not exist.
    pub fn must_be_operators(self) -> Result<(), Problem> {
        if self == Self::Everybody { Ok(()) } else { Err(Code::NotFound.into()) }
    }
}

/// Whether the replica can serve.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// Whether to send it requests.
    ready: bool,
    /// What is missing; empty when ready, and where operators have a listener of their own.
    #[schema(example = json!(["database"]))]
    missing: Vec<&'static str>,
}

/// Whether the process runs
#[utoipa::path(
    tag = "operators",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain", example = "ok")),
    security(())
)]
#[get("/livez")]
pub(super) async fn livez() -> &'static str {
    "ok"
}

/// Whether to send it requests
///
/// Not while it shuts down, nor while its database is away.
#[utoipa::path(
    tag = "operators",
    responses(
        (status = 200, description = "Ready.", body = Readiness),
        (status = 503, description = "Not ready, and what is missing.", body = Readiness)
    ),
    security(())
)]
#[get("/readyz")]
pub(super) async fn readyz(service: web::Data<Service>, audience: web::Data<Audience>) -> HttpResponse {
    let store = service.store.clone();
    let database = service.store.detached(async move { store.ping().await }).await;
    let mut missing = Vec::new();
    if service.draining() {
        missing.push("draining");
    }
    if database.is_err() {
        missing.push("database");
    }
    let mut readiness = Readiness { ready: missing.is_empty(), missing };
    if **audience == Audience::Clients {
        readiness.missing.clear();
    }
    if readiness.ready {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

/// Metrics, in the text format of Prometheus
#[utoipa::path(
    tag = "operators",
    responses(
        (status = 200, description = "Metrics.", body = String, content_type = "text/plain"),
        (status = 404, description = "Operators have a listener of their own; ask there.", body = ProblemBody,
            content_type = "application/problem+json")
    ),
    security(())
)]
#[get("/metrics")]
pub(super) async fn metrics_text(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
) -> Result<HttpResponse, Problem> {
    audience.must_be_operators()?;
    #[expect(clippy::cast_precision_loss, reason = "a count of streams is far below 2^52")]
    metrics::gauge!("headcount_watchers").set(service.hub.watchers() as f64);
    metrics::gauge!("headcount_stale").set(f64::from(u8::from(service.hub.stale())));
    let text = service.metrics.render();
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/plain; version=0.0.4")).body(text))
}
