//! Observes every request: its id, the trace it belongs to, its metrics, and its line in the log.
//!
//! The raw path and the query are in neither metrics nor log: paths are unbounded, and tickets are in
//! queries. Bounded: a client's request id is used only if it is short and plain; otherwise one is made.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use bytes::Bytes;
use metrics::{Counter, Histogram};
use tracing::Instrument;

use super::trace_context::TraceParent;
use crate::http::request::problem::{Code, Problem};
use crate::measure::{meters, throttle};

/// The request id, from the client or made here. It is in the response and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of a request id, at most.
const ID_MAX: usize = 64;

/// The route label of a request that matches no route, or is refused before routing.
const UNMATCHED: &str = "unmatched";

/// A request's id, and the trace it belongs to.
struct Names {
    id: HeaderValue,
    parent: Option<TraceParent>,
}

impl Names {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).filter(|id| is_plain(id.as_bytes()));
        let parent = headers.get("traceparent").and_then(|value| TraceParent::parse(value.to_str().ok()?));
        Self { id: given.cloned().unwrap_or_else(new_id), parent }
    }

    fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    fn trace(&self) -> Option<&str> {
        self.parent.as_ref().map(TraceParent::trace)
    }
}

fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:~-".contains(byte);
    (1..=ID_MAX).contains(&id.len()) && id.iter().all(plain)
}

fn new_id() -> HeaderValue {
    let id = format!("{:016x}", rand::random::<u64>());
    HeaderValue::from_maybe_shared(Bytes::from(id)).expect("hexadecimal digits may be in a header")
}

/// The outcome of a request.
struct Answered<'a> {
    names: &'a Names,
    method: Method,
    status: StatusCode,
    problem: Option<&'a Problem>,
    duration: Duration,
}

/// The middleware around everything else but `carry`.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let names = Names::of(request.headers());
    let method = request.method().clone(); // HEAD becomes GET further in
    let span = super::trace_context::span(names.parent.as_ref(), names.id());
    let result = next.call(request).instrument(span.clone()).await;
    let duration = started.elapsed();
    match result {
        Ok(mut response) => {
            let (status, error) = (response.status(), response.response().error());
            let problem = error.and_then(Error::as_error::<Problem>);
            let answered = Answered { names: &names, method, status, problem, duration };
            let route = response.request().match_pattern();
            answered.tell(route.as_deref().unwrap_or(UNMATCHED), &span);
            response.headers_mut().insert(REQUEST_ID, names.id);
            Ok(response)
        }
        // Refused before routing.
        Err(error) => {
            let (status, problem) = (error.as_response_error().status_code(), error.as_error::<Problem>());
            Answered { names: &names, method, status, problem, duration }.tell(UNMATCHED, &span);
            let mut response = error.error_response();
            response.headers_mut().insert(REQUEST_ID, names.id);
            Err(InternalError::from_response(error, response).into())
        }
    }
}

impl Answered<'_> {
    fn tell(&self, route: &str, span: &tracing::Span) {
        let Self { names, method, status, problem, duration } = self;
        count(route, method, *status, *duration);
        if let Some(problem) = problem {
            count_problem(problem.code());
        }
        span.record("http.route", route).record("http.response.status_code", status.as_u16());
        let (id, trace, method) = (names.id(), names.trace(), method_name(method));
        if let Some((cause, suppressed)) = problem.and_then(|problem| {
            problem.cause().zip(throttle::admit("a read failed", problem.code().as_str()))
        }) {
            tracing::warn!(
                request_id = id,
                trace_id = trace,
                method,
                route,
                error = cause,
                suppressed,
                "a read failed"
            );
        }
        let (status, ms) = (status.as_u16(), duration.as_secs_f64() * 1000.0);
        if let Some(suppressed) = (status == 500).then(|| throttle::admit("answered", "500")).flatten() {
            tracing::error!(
                request_id = id,
                trace_id = trace,
                method,
                route,
                status,
                ms,
                suppressed,
                "answered"
            );
        } else {
            tracing::debug!(request_id = id, trace_id = trace, method, route, status, ms, "answered");
        }
    }
}

/// The metrics of one route, cached from its first request on.
struct Route {
    pattern: String,
    duration: Histogram,
    /// By method and class of status.
    requests: [[OnceCell<Counter>; CLASSES.len()]; METHODS_COUNT],
}

const METHODS_COUNT: usize = 7;

static METHODS: [(Method, &str); METHODS_COUNT] = [
    (Method::GET, "GET"),
    (Method::POST, "POST"),
    (Method::PATCH, "PATCH"),
    (Method::PUT, "PUT"),
    (Method::DELETE, "DELETE"),
    (Method::HEAD, "HEAD"),
    (Method::OPTIONS, "OPTIONS"),
];

/// Classes of status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn method_name(method: &Method) -> &'static str {
    METHODS.iter().find(|(known, _)| known == method).map_or("other", |(_, name)| name)
}

impl Route {
    fn new(pattern: &str) -> Self {
        let duration = meters().http_duration.with(&[("route", pattern)]);
        Self { pattern: pattern.to_owned(), duration, requests: Default::default() }
    }

    fn count(&self, method: &Method, status: StatusCode, duration: Duration) {
        self.duration.record(duration);
        let make = |class: usize| {
            let labels = [
                ("route", self.pattern.as_str()),
                ("method", method_name(method)),
                ("status", CLASSES[class]),
            ];
            meters().http_requests.with(&labels)
        };
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        match METHODS.iter().position(|(known, _)| known == method) {
            Some(index) => self.requests[index][class].get_or_init(|| make(class)).increment(1),
            None => make(class).increment(1), // an unknown method: not cached
        }
    }
}

/// Bounded: the patterns are the program's, so the cache has no more entries than the program has routes.
fn count(pattern: &str, method: &Method, status: StatusCode, duration: Duration) {
    thread_local! {
        static ROUTES: RefCell<HashMap<String, Rc<Route>>> = RefCell::default();
    }
    let known = ROUTES.with_borrow(|routes| routes.get(pattern).cloned());
    let route = known.unwrap_or_else(|| {
        let route = Rc::new(Route::new(pattern));
        ROUTES.with_borrow_mut(|routes| routes.insert(pattern.to_owned(), route.clone()));
        route
    });
    route.count(method, status, duration);
}

fn count_problem(code: Code) {
    static COUNTERS: LazyLock<Vec<Counter>> = LazyLock::new(|| {
        Code::ALL.iter().map(|code| meters().http_problems.with(&[("code", code.as_str())])).collect()
    });
    COUNTERS[code as usize].increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_short_and_plain() {
        for good in ["a", "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77", &"x".repeat(64), "web-1:req.7~_"] {
            assert!(is_plain(good.as_bytes()), "{good}");
        }
        for bad in ["", "a b", "a\"b", "a,b", "a\u{e9}", "a{b}", &"x".repeat(65)] {
            assert!(!is_plain(bad.as_bytes()), "{bad}");
        }
        assert!(is_plain(new_id().as_bytes()) && new_id() != new_id());
    }

    #[test]
    fn codes_are_counted_by_their_place_in_the_table() {
        assert!(Code::ALL.iter().enumerate().all(|(index, code)| *code as usize == index));
    }
}
