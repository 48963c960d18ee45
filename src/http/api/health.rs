//! `/livez` and `/readyz`

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::request::audience::Audience;
use crate::http::service::Service;
use crate::hub::Hearing;
use crate::store::schema_version::SchemaVersion;

/// The result of the health check.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// Whether to send it requests.
    ready: bool,
    /// What is missing; empty if ready, and to clients where operators have a listener of their own.
    #[schema(example = json!(["database"]))]
    missing: Vec<Missing>,
    /// What is degraded, while requests are served; told where `missing` is.
    #[schema(example = json!(["listener"]))]
    degraded: Vec<Degraded>,
}

/// Why requests should not be sent.
#[derive(Serialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The replica is shutting down.
    Draining,
    /// The database does not answer, or answers with an error.
    Database,
    /// The schema is older than this program: run `headcount migrate`.
    Migrations,
}

/// What does not work as it should.
#[derive(Serialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Degraded {
    /// Notifications of other replicas' commits do not arrive; a poll finds the commits within 2 s.
    Listener,
    /// Watched rooms cannot be read: streams and rosters are marked stale.
    Stale,
    /// The schema is newer than this program, as it is while replicas are being replaced by newer ones.
    Migrations,
}

/// Check that the process runs
#[utoipa::path(
    tag = "operators",
    responses((status = 200, description = "It runs.", body = String, content_type = "text/plain", example = "ok")),
    security(())
)]
#[get("/livez")]
pub async fn livez() -> &'static str {
    "ok"
}

/// Whether to send it requests
///
/// A replica is not ready while it drains, while its database is away, or while the schema is missing or
/// older than the program. A replica that is `degraded` still serves.
#[utoipa::path(
    tag = "operators",
    responses(
        (status = 200, description = "Ready.", body = Readiness),
        (status = 503, description = "Not ready, and what is missing.", body = Readiness)
    ),
    security(())
)]
#[get("/readyz")]
pub async fn readyz(service: web::Data<Service>, audience: web::Data<Audience>) -> HttpResponse {
    let schema = service.store.detached(|store| async move { store.schema().await }).await;
    let missing = [
        (service.draining(), Missing::Draining),
        (schema.is_err(), Missing::Database),
        (matches!(schema, Ok(SchemaVersion::Older)), Missing::Migrations),
    ];
    let degraded = [
        (service.hub.hearing() == Hearing::Away, Degraded::Listener),
        (service.hub.stale(), Degraded::Stale),
        (matches!(schema, Ok(SchemaVersion::Newer)), Degraded::Migrations),
    ];
    let mut readiness = Readiness { ready: true, missing: named(missing), degraded: named(degraded) };
    readiness.ready = readiness.missing.is_empty();
    if **audience == Audience::Clients {
        readiness.missing.clear();
        readiness.degraded.clear();
    }
    if readiness.ready {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

fn named<T, const N: usize>(found: [(bool, T); N]) -> Vec<T> {
    found.into_iter().filter_map(|(so, name)| so.then_some(name)).collect()
}
