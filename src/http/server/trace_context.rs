//! W3C trace context: the header `traceparent` of a request, and the span that continues it where traces are
//! exported.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::measure::spans;

/// The trace and span of the sender, which a request continues.
pub struct TraceParent {
    text: String,
    sampled: bool,
}

impl TraceParent {
    /// Parses the header; none if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let zero = |part: &str| part.bytes().all(|b| b == b'0');
        let whole = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
        // Later versions may add parts.
        if !whole || version == "ff" || zero(trace) || zero(span) || version == "00" && parts.next().is_some()
        {
            return None;
        }
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { text: text[..55].to_owned(), sampled })
    }

    /// The id of the trace, 32 hexadecimal digits.
    pub fn trace(&self) -> &str {
        &self.text[3..35]
    }

    fn context(&self) -> Option<SpanContext> {
        let (trace, span) =
            (TraceId::from_hex(self.trace()).ok()?, SpanId::from_hex(&self.text[36..52]).ok()?);
        let flags = if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        Some(SpanContext::new(trace, span, flags, true, TraceState::default()))
    }
}

/// The span of a request; none if traces are not exported, or the request is not sampled. With a
/// `traceparent`, its sender has made the sampling decision.
pub fn span(parent: Option<&TraceParent>, request_id: &str) -> Span {
    let chosen = match parent {
        Some(parent) => parent.sampled && spans::exported(),
        None => spans::chosen(),
    };
    if !chosen {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: spans::TARGET,
        "request",
        "otel.kind" = "server",
        request_id,
        "http.route" = Empty,
        "http.response.status_code" = Empty
    );
    if let Some(context) = parent.and_then(TraceParent::context) {
        let parent = opentelemetry::Context::new().with_remote_span_context(context);
        let _ = span.set_parent(parent); // without the layer nobody exports it
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = TraceParent::parse(&format!("00-{trace}-00f067aa0ba902b7-01")).unwrap();
        assert!(read.sampled && read.trace() == trace);
        assert!(!TraceParent::parse(&format!("00-{trace}-00f067aa0ba902b7-00")).unwrap().sampled);
        assert!(TraceParent::parse(&format!("01-{trace}-00f067aa0ba902b7-01-more")).is_some());
        for bad in [
            "",
            "00",
            &format!("00-{trace}-00f067aa0ba902b7"),
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{trace}-00f067aa0ba902b7-01-more"),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            &format!("00-{trace}-0000000000000000-01"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert!(TraceParent::parse(bad).is_none(), "{bad}");
        }
    }
}
