//! Spans, where traces are exported. They are made for the requests that were chosen and for the batches that carry
//! them, and for nothing else: without export, or for a request that was not chosen, a span costs a look at a static.

use std::sync::OnceLock;

use tracing::Span;

/// What tells spans that are exported from what logs show.
pub const TARGET: &str = "headcount::trace";

/// The share of requests that are chosen; set once, and only where traces are exported.
static SHARE: OnceLock<f64> = OnceLock::new();

/// Says that traces are exported, and of which share of the requests that bring no trace of their own.
pub fn export(share: f64) {
    let _ = SHARE.set(share); // a second replica of this process, in a test
}

/// Whether traces are exported.
pub fn exported() -> bool {
    SHARE.get().is_some()
}

/// Whether to trace this request; asked once for each.
pub fn chosen() -> bool {
    SHARE.get().is_some_and(|share| rand::random::<f64>() < *share)
}

/// The span of the request that is being answered; none where it is not traced.
pub fn current() -> Span {
    if exported() { Span::current() } else { Span::none() }
}

/// The span of a batch: within the first of the requests that it carries, and linked to the others. None when no
/// request is traced.
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

/// The span of one attempt to commit a batch, within the batch's.
pub fn commit() -> Span {
    if !exported() || Span::current().is_disabled() {
        return Span::none();
    }
    tracing::info_span!(target: TARGET, "commit", "otel.kind" = "client")
}
