//! Finds proxies that buffer or cut streams, by an event stream of known timing (`GET /v1/diagnostics/stream`):
//! events that arrive together though they were sent over a second were buffered; a stream without `end` was cut.

use std::time::Duration;

use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::finding::Finding;
use crate::cli::client::Client;
use crate::cli::out;
use crate::cli::refusal::CallError;
use crate::cli::sse::{Parser, SseEvent};

/// As long as a room's stream is silent, and a little more.
const SILENCE: Duration = Duration::from_secs(16);

/// Timeout of the stream, in addition to the silence.
const PATIENCE: Duration = Duration::from_secs(15);

const UNBUFFERED: &str = "Switch buffering and compression of text/event-stream off in the proxy before it (nginx: \
    `proxy_buffering off; gzip off;`, without `proxy_ignore_headers X-Accel-Buffering`).";

const UNCUT: &str =
    "Let the proxy wait at least 60 s for more of an answer (nginx: `proxy_read_timeout 75s;`).";

#[derive(Deserialize)]
struct Tick {
    sent_ms: u64,
}

/// Time over which the service sends its five ticks.
const TICKS_LAST: Duration = Duration::from_secs(1);

/// What arrived of the stream: when each tick was sent, and when it arrived.
#[derive(Default)]
struct Heard {
    ticks: Vec<(Duration, Duration)>,
    whole: bool,
}

/// Watches the stream: about a second, or 17 s with a silence as long as streams have.
pub async fn look(client: &Client, quick: bool) -> Vec<Finding> {
    let silence = if quick { Duration::ZERO } else { SILENCE };
    if !quick {
        out::note("watching a stream that is silent for 16 s (--quick leaves that out)");
    }
    let mut heard = Heard::default();
    let watching = timeout(silence + PATIENCE, watch(client, silence, &mut heard)).await;
    if let Ok(Err(error)) = watching {
        return vec![Finding::of_call("line", &error)];
    }
    judge(&heard, quick)
}

async fn watch(client: &Client, silence: Duration, heard: &mut Heard) -> Result<(), CallError> {
    let path = format!("/v1/diagnostics/stream?silence_ms={}", silence.as_millis());
    let began = Instant::now();
    let (mut stream, compressed) = client.open_as_browsers(&path).await?;
    let mut parser = Parser::default();
    loop {
        match stream.frame().await {
            Some(Ok(frame)) if compressed => {
                heard.compressed(&frame.into_data().unwrap_or_default(), began.elapsed());
            }
            Some(Ok(frame)) => {
                let events = parser.feed(&frame.into_data().unwrap_or_default());
                events.unwrap_or_default().iter().for_each(|event| hear(heard, event, began.elapsed()));
            }
            None if compressed => {
                heard.whole = true;
                return Ok(());
            }
            None | Some(Err(_)) => return Ok(()), // before its end, it was cut
        }
    }
}

impl Heard {
    /// Compressed bytes cannot be read. But it is known when they arrived, and when the first and the last
    /// tick were sent.
    fn compressed(&mut self, bytes: &[u8], at: Duration) {
        if !bytes.is_empty() {
            let sent = if self.ticks.is_empty() { Duration::ZERO } else { TICKS_LAST };
            self.ticks.push((sent, at));
        }
    }
}

fn hear(heard: &mut Heard, event: &SseEvent, at: Duration) {
    match (event.name.as_str(), serde_json::from_str::<Tick>(&event.data)) {
        ("tick", Ok(tick)) => heard.ticks.push((Duration::from_millis(tick.sent_ms), at)),
        ("end", _) => heard.whole = true,
        _ => {}
    }
}

/// Ticks that arrive within less than half of the time in which they were sent were buffered: a network's
/// jitter is smaller.
fn judge(heard: &Heard, quick: bool) -> Vec<Finding> {
    let span = heard.ticks.first().zip(heard.ticks.last());
    let (sent, came) =
        span.map_or_else(Default::default, |(first, last)| (last.0 - first.0, last.1 - first.1));
    let told = format!(
        "{} events, sent over {:.2} s, came over {:.2} s",
        heard.ticks.len(),
        sent.as_secs_f64(),
        came.as_secs_f64()
    );
    let mut found = Vec::new();
    if heard.ticks.len() < 2 || came < sent / 2 {
        found.push(Finding::fail("line", format!("something holds streams back: {told}"), UNBUFFERED));
    }
    if !heard.whole && heard.ticks.len() >= 2 {
        found.push(Finding::fail("line", "something cuts streams that are silent", UNCUT));
    }
    if found.is_empty() {
        let silence = if quick { "" } else { ", and a silence of 16 s was not cut" };
        found.push(Finding::ok("line", format!("{told}{silence}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn states(came_ms: [u64; 5], whole: bool) -> Vec<State> {
        let ticks = came_ms.iter().enumerate().map(|(n, came)| (250 * u64::try_from(n).unwrap(), *came));
        let ticks = ticks.map(|(sent, came)| (Duration::from_millis(sent), Duration::from_millis(came)));
        judge(&Heard { ticks: ticks.collect(), whole }, true).iter().map(|finding| finding.state).collect()
    }

    #[test]
    fn what_comes_at_once_was_buffered_and_what_has_no_end_was_cut() {
        assert_eq!(states([5, 260, 700, 760, 1010], true), [State::Ok]);
        assert_eq!(states([1010, 1010, 1011, 1012, 1012], true), [State::Fail]);
        assert_eq!(states([5, 260, 510, 760, 1010], false), [State::Fail]);
        assert_eq!(states([9, 9, 9, 9, 9], false), [State::Fail; 2]);
    }
}
