//! `GET /v1/diagnostics/stream`: an event stream with a known timetable, by which a client finds a proxy that
//! harms streams. Ticks that arrive all at once, though they were sent over a second, were buffered. A stream
//! that ends without `end` was cut.
//!
//! Bounded: a stream takes a permit as any other, and lasts at most [`SILENCE_MAX`] and one second.

use std::time::Duration;

use actix_web::rt::time::{Instant, sleep_until};
use actix_web::{HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::stream;
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// Ticks that are sent one after the other before the silence.
const TICKS: u32 = 5;

/// Time between ticks: a second in total, more than a network's jitter.
const TICK_EVERY: Duration = Duration::from_millis(250);

/// As long as a room's stream is silent (`sync` comes every 15 s), and a little more.
const SILENCE: Duration = Duration::from_secs(16);

/// Longer than any stream of ours is silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The silence to try.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiagnosticsQuery {
    /// Silence before `end`, in milliseconds, at most 60000. If not given 16000: a little longer than a
    /// stream of rooms is ever silent.
    #[param(minimum = 0, maximum = 60000, example = 16000)]
    silence_ms: Option<u64>,
    /// Instead of the `Authorization` header, for `EventSource`: see `POST /v1/tickets`.
    ticket: Option<String>,
}

/// The data of `tick` and of `end`.
#[derive(Serialize, ToSchema)]
pub struct TickFrame {
    /// Its number, from 0.
    #[schema(example = 1)]
    n: u32,
    /// Milliseconds since the stream began.
    #[schema(example = 250)]
    sent_ms: u64,
}

problems!(DiagnosticsProblems: InvalidQuery TokenInUrl MissingToken InvalidToken ExpiredToken TooManyStreams ReplicaFull Draining);

/// Test the connection
///
/// Server-Sent Events on a known timetable: five `tick` in one second, then a silence as long as streams of
/// rooms have (16 s if not given), then `end`. If the ticks arrive all at once, a proxy on the way buffers.
/// If the stream ends without `end`, something cuts silent connections. Right: any token, ticket, or server
/// key.
#[utoipa::path(
    tag = "streams",
    params(DiagnosticsQuery),
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = TickFrame),
        DiagnosticsProblems
    ),
    security(("token" = []), ("server_key" = []), ("ticket" = []))
)]
#[get("/v1/diagnostics/stream")]
pub async fn diagnostics_stream(
    service: web::Data<Service>,
    request: HttpRequest,
    query: web::Query<DiagnosticsQuery>,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::watching(&service, &request, query.ticket.as_deref()).await?;
    let silence = query.silence_ms.map_or(SILENCE, Duration::from_millis);
    if silence > SILENCE_MAX {
        let most = format!("silence_ms is at most {}", SILENCE_MAX.as_millis());
        return Err(Problem::with(Code::InvalidQuery, most));
    }
    if service.draining() {
        return Err(Code::Draining.into());
    }
    let permit = service.limits.stream(&request, caller.counted())?;
    let began = Instant::now();
    let ends = stream::Ends::of(&service, &caller);
    let body = unfold((0, permit, ends), move |(n, permit, ends)| async move {
        let due = due(n, silence)?;
        sleep_until(began + due).await;
        if ends.revoked() {
            return None;
        }
        Some((Ok::<_, actix_web::Error>(frame(n, began)), (n + 1, permit, ends)))
    });
    Ok(stream::head().streaming(body))
}

/// When a frame is due; none after the last.
fn due(n: u32, silence: Duration) -> Option<Duration> {
    match n {
        0..TICKS => Some(TICK_EVERY * n),
        TICKS => Some(TICK_EVERY * (TICKS - 1) + silence),
        _ => None,
    }
}

fn frame(n: u32, began: Instant) -> Bytes {
    let event = if n < TICKS { "tick" } else { "end" };
    let sent_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    format!("event: {event}\ndata: {{\"n\":{n},\"sent_ms\":{sent_ms}}}\n\n").into()
}
