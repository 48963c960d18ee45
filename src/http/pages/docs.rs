//! The pages that explain the API: the document, and the table of codes.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, get, web};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use crate::http::request::problem::Code;

/// Where a problem's `type` leads: the table of codes. All of it is ours, so nothing needs escaping.
#[get("/problems")]
async fn problem_codes() -> HttpResponse {
    let rows = Code::ALL.iter().map(|code| {
        let (name, status, title) = (code.as_str(), code.status().as_u16(), code.title());
        format!("<dt id=\"{name}\">{name} ({status})</dt><dd>{title}</dd>")
    });
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>headcount: error codes</title>\
         <h1>Error codes</h1><dl>{}</dl></html>",
        rows.collect::<String>()
    );
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/html; charset=utf-8")).body(page)
}

pub fn configure(config: &mut web::ServiceConfig, document: OpenApi) {
    config.service(problem_codes);
    config.service(web::redirect("/docs", "/docs/"));
    config.service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", document));
}
