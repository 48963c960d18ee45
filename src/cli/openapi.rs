//! `headcount openapi`

use super::failure::Failure;
use super::out::Out;

/// Prints the document.
pub fn run(out: &mut Out) -> Result<(), Failure> {
    let document = crate::http::routes::document().to_pretty_json().map_err(Failure::failed)?;
    out.raw(&format!("{document}\n"))
}
