//! The HTTP API: routes, who may do what, error codes, the event stream. No SQL here, and no rule about presence.
//!
//! Five wings, and on top of them [`routes`], which composes the handlers, and [`service`], what handlers work with. `api`
//! has a file for each call, `streams` those that go on; `request` reads a request and refuses it, `server` carries it, and
//! `pages` shows the document, the demo and the operators' page.

mod api;
mod pages;
pub mod request;
pub mod routes;
pub mod server;
pub mod service;
mod streams;
