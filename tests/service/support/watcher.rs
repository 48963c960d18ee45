//! A watcher as a client would write one: reads frames, folds them, and checks that it may.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use reqwest::Response;
use serde_json::Value;

use crate::support::deployment::PATIENCE;

/// One event of a stream.
#[derive(Debug, Clone)]
pub struct Frame {
    pub event: String,
    pub data: Value,
    pub id: Option<String>,
}

/// An open stream and what it has told so far, per room.
pub struct Watcher {
    bytes: Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: Vec<u8>,
    frames: VecDeque<Frame>,
    /// Members by id, of each room.
    pub rosters: BTreeMap<String, BTreeMap<String, Value>>,
    /// Rooms that are not listed whole.
    paged: BTreeSet<String>,
    /// The last cursor, of each room.
    pub cursors: BTreeMap<String, String>,
    /// Everything heard.
    pub heard: Vec<Frame>,
    /// The id to resume from.
    pub last_id: Option<String>,
}

impl Watcher {
    pub fn new(response: Response) -> Self {
        Self {
            bytes: Box::pin(response.bytes_stream()),
            buffer: Vec::new(),
            frames: VecDeque::new(),
            rosters: BTreeMap::new(),
            paged: BTreeSet::new(),
            cursors: BTreeMap::new(),
            heard: Vec::new(),
            last_id: None,
        }
    }

    /// Goes on with what another one knew.
    pub fn after(self, before: Self) -> Self {
        Self {
            rosters: before.rosters,
            paged: before.paged,
            cursors: before.cursors,
            last_id: before.last_id,
            ..self
        }
    }

    /// The next frame; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        let reading = async {
            while self.frames.is_empty() {
                let Some(Ok(bytes)) = self.bytes.next().await else { return None };
                self.buffer.extend_from_slice(&bytes);
                self.parse();
            }
            self.frames.pop_front()
        };
        let frame = tokio::time::timeout(PATIENCE, reading).await.expect("a frame in time")?;
        self.fold(&frame);
        self.heard.push(frame.clone());
        Some(frame)
    }

    /// Reads until a frame of this event.
    pub async fn until_event(&mut self, event: &str) -> Frame {
        self.until(event, |watcher| watcher.heard.last().is_some_and(|frame| frame.event == event), true)
            .await;
        self.heard.last().expect("it was just heard").clone()
    }

    /// Reads until exactly these users are in the room.
    pub async fn until_members(&mut self, room: &str, members: &[&str]) {
        self.until(&format!("{members:?} in {room}"), |watcher| watcher.members(room) == members, false)
            .await;
    }

    /// Reads until the room is at this cursor.
    pub async fn until_cursor(&mut self, room: &str, cursor: &str) {
        self.until(cursor, |watcher| watcher.cursors.get(room).is_some_and(|c| c == cursor), false).await;
    }

    /// `sync` frames come for ever: what does not come in time does not come.
    async fn until(&mut self, what: &str, found: impl Fn(&Self) -> bool, at_least_one: bool) {
        let reading = async {
            let mut unread = at_least_one;
            while unread || !found(self) {
                self.next()
                    .await
                    .unwrap_or_else(|| panic!("the stream ended before {what}: {:?}", self.heard));
                unread = false;
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.unwrap_or_else(|_| panic!("never: {what}: {:?}", self.heard));
    }

    pub fn members(&self, room: &str) -> Vec<String> {
        self.rosters.get(room).map(|roster| roster.keys().cloned().collect()).unwrap_or_default()
    }

    fn parse(&mut self) {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let text = String::from_utf8(block).expect("streams are UTF-8");
            let field = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
            };
            if let Some(event) = field("event") {
                let data = serde_json::from_str(&field("data").expect("a frame has data"))
                    .expect("one line of JSON");
                self.frames.push_back(Frame { event, data, id: field("id") });
            }
        }
    }

    fn fold(&mut self, frame: &Frame) {
        self.last_id = frame.id.clone().or(self.last_id.take());
        let Some(room) = frame.data["room"].as_str().map(str::to_owned) else { return };
        let roster = self.rosters.entry(room.clone()).or_default();
        let list = |name: &str| frame.data[name].as_array().cloned().unwrap_or_default();
        let id = |member: &Value| member["id"].as_str().unwrap().to_owned();
        match frame.event.as_str() {
            "snapshot" | "presence" => {
                *roster = list("members").iter().map(|m| (id(m), m.clone())).collect();
                if frame.data["count"] != roster.len() {
                    self.paged.insert(room.clone());
                }
            }
            "diff" => {
                for member in list("joined") {
                    assert!(roster.insert(id(&member), member).is_none(), "joined twice: {frame:?}");
                }
                for member in list("updated") {
                    assert!(roster.insert(id(&member), member).is_some(), "updated while absent: {frame:?}");
                }
                for member in list("left") {
                    assert!(roster.remove(&id(&member)).is_some(), "left while absent: {frame:?}");
                }
                let whole = !self.paged.contains(&room);
                assert!(
                    !whole || frame.data["count"] == roster.len(),
                    "the count is that of the members: {frame:?}"
                );
            }
            _ => {}
        }
        self.advance(room, frame);
    }

    /// Versions strictly increase within an epoch, unless a snapshot says that all is new.
    fn advance(&mut self, room: String, frame: &Frame) {
        let cursor = frame.data["cursor"].as_str().unwrap().to_owned();
        if let Some(last) = self.cursors.get(&room).filter(|_| frame.event != "snapshot") {
            let ((epoch, version), (last_epoch, last_version)) = (split(&cursor), split(last));
            assert_eq!(epoch, last_epoch, "an epoch changes by a snapshot only");
            assert!(version > last_version, "{version} after {last_version}: {frame:?}");
        }
        self.cursors.insert(room, cursor);
    }
}

/// Epoch and version.
pub fn split(cursor: &str) -> (&str, u64) {
    let (epoch, version) = cursor.split_once('.').unwrap();
    (epoch, version.parse().unwrap())
}
