//! A watcher like the real client: it resumes with the last id it heard, waits as it is told, and opens a stream anew
//! when nothing was heard for too long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::clients::{Phase, World, token};
use crate::recording::{Cursor, Frame, FrameEvent, What};

/// A `sync` comes every 15 s: a stream that is silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// From the request to its answer's head.
const OPEN_MAX: Duration = Duration::from_secs(5);

/// Where each watcher is, by name: room and last cursor of the stream that is open now.
pub type Places = Arc<Mutex<BTreeMap<String, (String, Option<Cursor>)>>>;

/// What to watch, and how.
#[derive(Clone)]
pub struct Watching {
    pub name: String,
    pub room: String,
    pub mode: &'static str,
    pub places: Places,
}

impl Watching {
    /// Until the fleet rests.
    pub async fn follow(self, world: World) {
        let (mut at, mut last) = (rand::random_range(0..world.bases.len()), None::<Cursor>);
        let mut pause = Duration::from_millis(100);
        while !world.is_past(Phase::Settle) {
            let base = &world.bases[at % world.bases.len()];
            let number = world.recorder.number();
            let (client, room) = (self.name.clone(), self.room.clone());
            world.recorder.record(What::Opened { stream: number, client, room, last: last.clone() });
            let stream = Open { watching: &self, world: &world, number, text: Vec::new() };
            let retry = stream.read(base, &mut last).await;
            self.place(None);
            world.recorder.record(What::Closed { stream: number });
            pause = match retry {
                Retry::Told(pause) => pause,
                Retry::Cut => Duration::from_millis(rand::random_range(100..500)),
                Retry::Refused => (pause * 2).clamp(Duration::from_millis(100), Duration::from_secs(1)),
            };
            at += 1;
            world.pause(Phase::Settle, pause).await;
        }
    }

    fn place(&self, cursor: Option<Cursor>) {
        self.places.lock().unwrap().insert(self.name.clone(), (self.room.clone(), cursor));
    }
}

/// When to come back.
enum Retry {
    Told(Duration),
    Cut,
    Refused,
}

struct Open<'a> {
    watching: &'a Watching,
    world: &'a World,
    number: u64,
    text: Vec<u8>,
}

impl Open<'_> {
    async fn read(mut self, base: &str, last: &mut Option<Cursor>) -> Retry {
        let Watching { room, mode, name, .. } = self.watching;
        let url = format!("{base}/v1/rooms/{room}/events?mode={mode}");
        let mut request = self.world.http.get(url).bearer_auth(token(name));
        if let Some(cursor) = &last {
            request = request.header("last-event-id", cursor.to_string());
        }
        let Ok(Ok(response)) = timeout(OPEN_MAX, request.send()).await else { return Retry::Refused };
        if !response.status().is_success() {
            if response.status().as_u16() != 503 {
                self.world.recorder.odd(format!("a stream was refused with {}", response.status()));
            }
            return Retry::Refused;
        }
        let mut bytes = response.bytes_stream();
        let mut phase = self.world.phase.clone();
        loop {
            let chunk = tokio::select! {
                chunk = timeout(SILENCE_MAX, bytes.next()) => chunk,
                _ = phase.wait_for(|phase| *phase > Phase::Settle) => return Retry::Cut,
            };
            let Ok(Some(Ok(chunk))) = chunk else { return Retry::Cut };
            self.text.extend_from_slice(&chunk);
            if let Some(retry) = self.take(last) {
                return Retry::Told(retry);
            }
        }
    }

    /// Records the frames that are complete. Gives how long to wait after a bye.
    fn take(&mut self, last: &mut Option<Cursor>) -> Option<Duration> {
        while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.text.drain(..end + 2).collect();
            let text = String::from_utf8(block).expect("streams are UTF-8");
            let field = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
            };
            let (Some(event), Some(data)) = (field("event"), field("data")) else { continue };
            let data: Value = serde_json::from_str(&data).expect("one line of JSON");
            let Some(frame) = Frame::read(self.number, &event, &data) else {
                self.world.recorder.odd(format!("a frame that there is not: {text:?}"));
                continue;
            };
            let bye = frame.event == FrameEvent::Bye;
            *last = field("id").map(|id| id.parse().expect("an id is a cursor")).or(last.take());
            self.world.recorder.record(What::Frame(frame));
            self.watching.place(last.clone());
            if bye {
                return Some(Duration::from_millis(data["retry_ms"].as_u64().unwrap()));
            }
        }
        None
    }
}
