//! Spans of exported traces. They are made only for sampled requests, and for the batches that contain one. Fast path:
//! without export, or for a request that is not sampled, the cost of a span is reading a static.

use std::sync::OnceLock;

use tracing::Span;

/// Target of exported spans, which distinguishes them from log events.
pub const TARGET: &str = "headcount::trace";

/// The sampling rate of requests. Set once, and only if traces are exported.
static SHARE: OnceLock<f64> = OnceLock::new();

/// Turns export on, with the sampling rate of requests that bring no trace context of their own.
pub fn export(share: f64) {
    let _ = SHARE.set(share); // fails for a second replica in this process, in a test
}

/// Whether traces are exported.
pub fn exported() -> bool {
    SHARE.get().is_some()
}

/// The sampling decision; called once for each request.
pub fn chosen() -> bool {
    SHARE.get().is_some_and(|share| rand::random::<f64>() < *share)
}

/// The span of the current request; none if it is not traced.
pub fn current() -> Span {
    if exported() { Span::current() } else { Span::none() }
}

/// The span of a batch: a child of the first traced request in it, and linked to the others. None if no request is
/// traced.
pub fn batch<'a>(callers: impl Iterator<Item = &'a Span>, size: usize) -> Span {
    if !exported() {
        return Span::none();
    }
    let mut traced = callers.filter(|span| !span.is_disabled());
    let Some(first) = traced.next() else { return Span::none() };
    let span = tracing::info_span!(target: TARGET, parent: first, "batch", size);
    for other in traced {
        span.follows_from(other);
    }
    span
}

/// The span of one attempt to commit a batch, a child of the batch's span. Each retry has its own.
pub fn commit() -> Span {
    if !exported() || Span::current().is_disabled() {
        return Span::none();
    }
    tracing::info_span!(target: TARGET, "commit", "otel.kind" = "client")
}
