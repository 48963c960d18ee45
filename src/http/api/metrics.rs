//! `/metrics`

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, get, web};

use crate::http::request::audience::Audience;
use crate::http::request::problem::{Problem, ProblemBody};
use crate::http::service::Service;

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
pub async fn metrics_text(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
) -> Result<HttpResponse, Problem> {
    audience.must_be_operators()?;
    service.commands.measure();
    service.hub.measure();
    service.store.measure();
    let text = crate::measure::render();
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/plain; version=0.0.4")).body(text))
}
