//! Pages and files beside the API: the document, the demo, the operators' page, and the browser library.

pub mod admin;
pub mod assets;
pub mod demo;
pub mod docs;
pub mod openapi;
pub mod script;
