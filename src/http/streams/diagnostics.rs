//! `GET /v1/diagnostics/stream`: an event stream with a known timetable, so that a client can tell what stands between
//! it and the service. What arrives at once though it was sent over a second was buffered; what ends without `end` was cut.
//!
//! Bounded: a stream takes a permit among the others, and lasts [`SILENCE_MAX`] and a little at most.

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

/// Between them: together a second, which no network delays by chance.
const TICK_EVERY: Duration = Duration::from_millis(250);

/// As long as a room's stream is silent (`sync` comes every 15 s), and a little more.
const SILENCE: Duration = Duration::from_secs(16);

/// Longer than any stream of ours is silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What to try.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiagnosticsQuery {
    /// How long to be silent before `end`, in milliseconds, at most 60000. As long as the streams of rooms are if not
    /// given: 16000.
    #[param(minimum = 0, maximum = 60000, example = 16000)]
    silence_ms: Option<u64>,
    /// Instead of the `Authorization` header, for `EventSource`: see `POST /v1/tickets`.
    ticket: Option<String>,
}

/// The data of `tick` and of `end`.
#[derive(Serialize, ToSchema)]
pub struct TickFrame {
    /// Which one, from 0.
    #[schema(example = 1)]
    n: u32,
    /// Milliseconds since the stream began.
    #[schema(example = 250)]
    sent_ms: u64,
}

problems!(DiagnosticsProblems: InvalidQuery TokenInUrl MissingToken InvalidToken ExpiredToken TooManyStreams ReplicaFull Draining);

/// Test the line
///
/// Server-Sent Events on a known timetable: five `tick` in one second, then silence as long as streams of rooms have it
/// (16 s), then `end`. If the ticks arrive all at once, something on the way buffers; if the stream ends without `end`,
/// something cuts silent connections. Right: any token, ticket, or server key.
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
    let body = unfold((0, permit), move |(n, permit)| async move {
        let due = due(n, silence)?;
        sleep_until(began + due).await;
        Some((Ok::<_, actix_web::Error>(frame(n, began)), (n + 1, permit)))
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
