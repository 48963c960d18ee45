//! What the SQL functions promise to whoever calls them: the service, an application in its own transaction, a
//! person with psql. The plain course of things is the model test's; here are transactions that meet, order,
//! waiting, plans and clocks.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod batches;
mod calls;
mod concurrency;
mod days;
mod erasures;
mod history;
mod newcomers;
mod order;
mod plans;
mod rights;
mod row_security;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod sweeps;
mod transactions;
mod triggers;
mod trims;
mod values;
mod webhooks;
