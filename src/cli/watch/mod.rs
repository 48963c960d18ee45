//! `headcount watch`: follows rooms until its output is closed.
//!
//! A stream that ends, breaks or is silent is retried and resumes from the last cursor, so that nothing is printed
//! twice, and a change that is left out is announced by an `=` line. A permanent error (no such room, an expired token)
//! ends it. Bounded: one event, and one roster per room.

mod lines;

use std::time::Duration;

use clap::{Args, ValueEnum};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::arguments::{ServiceArgs, room};
use super::client::Client;
use super::failure::Failure;
use super::out::{self, Out};
use super::refusal::CallError;
use super::sse;
use super::sse::{Parser, SseEvent};
use crate::domain::id::RoomId;
use lines::Lines;

/// `headcount watch`
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// The rooms, at most 32
    #[arg(required = true, num_args = 1..=32, value_parser = room, value_name = "ROOM")]
    pub rooms: Vec<RoomId>,
    /// How much to print
    #[arg(long, value_enum, default_value = "diff")]
    pub mode: WatchMode,
    /// Print each frame as a line of JSON
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: ServiceArgs,
}

/// How much to print.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// The members, then those that join, change or leave.
    Diff,
    /// The whole list at each change.
    List,
    /// The number of members at each change.
    Count,
}

/// `sync` comes every 15 s: a stream that is silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// The longest delay before a retry.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The delay before a retry, until the service sends one.
const PAUSE: Duration = Duration::from_secs(1);

/// A frame as it is passed on.
#[derive(serde::Serialize)]
struct Line<'a> {
    event: &'a str,
    id: Option<&'a str>,
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Sync {
    stale: bool,
}

#[derive(Deserialize)]
struct Bye {
    reason: String,
    retry_ms: u64,
}

/// Why a stream ended.
enum End {
    /// The service ended it, and said after how long to reconnect.
    Bye(Duration),
    /// It broke off, or fell silent.
    Broken(String),
}

struct Follower<'a> {
    client: Client,
    path: String,
    json: bool,
    lines: Lines,
    out: &'a mut Out,
    last_id: Option<String>,
    pause: Duration,
    stale: bool,
}

/// Prints changes until a signal comes or the reader of the output is gone.
pub async fn run(wanted: WatchArgs, out: &mut Out) -> Result<(), Failure> {
    let client = Client::new(&wanted.target)?;
    let mut rooms: Vec<String> = wanted.rooms.iter().map(ToString::to_string).collect();
    rooms.sort_unstable();
    rooms.dedup();
    let mode = match wanted.mode {
        WatchMode::Diff => "diff",
        WatchMode::List => "list",
        WatchMode::Count => "count",
    };
    let path = format!("/v1/events?rooms={}&mode={mode}", rooms.join(","));
    let lines = Lines::new(rooms.len() > 1);
    let json = wanted.json;
    let mut follower = Follower { client, path, json, lines, out, last_id: None, pause: PAUSE, stale: false };
    tokio::select! {
        failed = follower.follow() => failed,
        () = interrupted() => Ok(()),
        () = out::closed() => Err(Failure::Closed),
    }
}

/// Returns on Ctrl-C, or on another request to terminate.
pub(super) async fn interrupted() {
    let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler can be installed");
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler can be installed");
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
}

impl Follower<'_> {
    /// Returns only failures. The first attempt is not retried: if it fails, most likely the command line is
    /// wrong.
    async fn follow(&mut self) -> Result<(), Failure> {
        let mut stream = self.client.open(&self.path, None).await?;
        loop {
            let wait = match self.read(stream).await? {
                End::Bye(wait) => wait,
                End::Broken(reason) => {
                    out::note(&format!("the stream ended ({reason}); opening it again"));
                    self.pause
                }
            };
            sleep(wait).await;
            stream = self.reopen().await?;
        }
    }

    async fn reopen(&mut self) -> Result<Incoming, Failure> {
        let mut failed = 0;
        loop {
            let error = match self.client.open(&self.path, self.last_id.as_deref()).await {
                Ok(stream) => {
                    if failed > 0 {
                        out::note("connected again");
                    }
                    return Ok(stream);
                }
                Err(error) if error.may_pass() => error,
                Err(error) => return Err(error.into()),
            };
            if failed == 0 {
                out::note(&error.to_string());
            }
            sleep(self.wait(failed, &error)).await;
            failed += 1;
        }
    }

    /// The delay before a retry: the service's `Retry-After`, or else exponential backoff with jitter, so
    /// that many clients do not retry at once. At most [`PAUSE_MAX`].
    fn wait(&self, failed: u32, error: &CallError) -> Duration {
        if let CallError::Refusal(refusal) = error
            && let Some(after) = refusal.retry_after
        {
            return after.min(PAUSE_MAX);
        }
        let wait = self.pause.saturating_mul(1 << failed.min(5)).min(PAUSE_MAX);
        wait.mul_f64(rand::random_range(0.5..=1.0))
    }

    async fn read(&mut self, mut stream: Incoming) -> Result<End, Failure> {
        let mut parser = Parser::default();
        loop {
            let Ok(frame) = timeout(SILENCE_MAX, stream.frame()).await else {
                return Ok(End::Broken(format!("nothing came for {} s", SILENCE_MAX.as_secs())));
            };
            let bytes = match frame {
                None => return Ok(End::Broken("without a word".into())),
                Some(Err(error)) => return Ok(End::Broken(crate::auth::remote::causes(&error))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            let events = match parser.feed(&bytes) {
                Ok(events) => events,
                Err(sse::TooLarge) => return Ok(End::Broken("an event is too large".into())),
            };
            for event in events {
                if let Some(end) = self.hear(&event)? {
                    return Ok(end);
                }
            }
        }
    }

    fn hear(&mut self, event: &SseEvent) -> Result<Option<End>, Failure> {
        if let Some(retry) = event.retry_ms {
            self.pause = Duration::from_millis(retry).clamp(Duration::from_millis(50), PAUSE_MAX);
        }
        let foreign = || Failure::Call(CallError::Foreign(self.client.base().to_owned()));
        match event.name.as_str() {
            "" => {}
            "bye" => {
                let Bye { reason, retry_ms } = serde_json::from_str(&event.data).map_err(|_| foreign())?;
                if reason == "slow" {
                    out::note("what happened came faster than it was read; going on from there");
                }
                return Ok(Some(End::Bye(Duration::from_millis(retry_ms).min(PAUSE_MAX))));
            }
            "sync" => {
                let Sync { stale } = serde_json::from_str(&event.data).map_err(|_| foreign())?;
                if stale != self.stale {
                    let [now, before] = [
                        "cannot reach its database: what is shown may be out of date",
                        "can reach its database again",
                    ];
                    out::note(&format!("the service {}", if stale { now } else { before }));
                    self.stale = stale;
                }
            }
            _ if self.json => {
                let data = serde_json::from_str(&event.data).map_err(|_| foreign())?;
                self.out.json(&Line { event: &event.name, id: event.id.as_deref(), data })?;
            }
            name => {
                let lines = self.lines.of(name, &event.data).map_err(|_| foreign())?;
                lines.iter().try_for_each(|line| self.out.line(line))?;
            }
        }
        // Only after it was printed: an event that was not printed must be replayed.
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
        Ok(None)
    }
}
