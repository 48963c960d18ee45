//! The HTTP API. No SQL here, and no rule about presence.
//!
//! [`routes`] registers the handlers, and [`service`] is the state that they share. Below are five wings: `api` has a file
//! per call; `streams` has the event streams; [`request`] parses and refuses requests (caller, body, limits, problems);
//! [`server`] accepts connections and wraps every request (TLS, sockets, logs, headers); `pages` has the OpenAPI document,
//! the demo, the operators' page and the browser library. No wing names `routes`.

mod api;
mod pages;
pub mod request;
pub mod routes;
pub mod server;
pub mod service;
mod streams;
