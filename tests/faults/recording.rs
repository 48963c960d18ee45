//! What a run of the fault tests leaves behind: everything the clients asked and heard, with the time of each,
//! and what the database held when all was at rest. Plain data; written and read as JSON, one line a piece.
//!
//! Times of records are on the run's own monotonic clock. `Asked` and `Opened` are written before the request is sent,
//! `Answered`, `Frame` and `Closed` after the bytes came. The checker reads every interval as
//! "somewhere in here", so a record that is late makes it weaker, and one that is early makes it wrong.

#![allow(dead_code, reason = "the fault tests write recordings, the tests of the checker invent them")]

use std::fmt;
use std::io::{self, BufRead, Write};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A run. Rooms have at most 1000 members, so that rosters and snapshots list all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    pub settings: Settings,
    pub records: Vec<Record>, // in the order of their times
    /// `headcount.events` at rest, in any order.
    pub log: Vec<LoggedEvent>,
    /// `headcount.memberships` at rest.
    pub presence: Vec<Membership>,
    /// Every room that was used, also those that are empty at rest.
    pub rosters: Vec<RosterAtRest>,
}

/// What the deployment was told, and what is allowed of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    #[serde(with = "micros")]
    pub lease: Duration,
    #[serde(with = "micros")]
    pub sweep_interval: Duration,
    #[serde(with = "micros")]
    pub leave_grace: Duration,
    /// From a commit until every open stream has it, when healthy.
    #[serde(with = "micros")]
    pub deliver_within: Duration,
    /// The same, counted from the end of a fault.
    #[serde(with = "micros")]
    pub heal_within: Duration,
    /// Departures after an outage are spread over this long (500 a second).
    #[serde(with = "micros")]
    pub spread: Duration,
    /// What was sent and never answered has happened after this long, or never will.
    #[serde(with = "micros")]
    pub linger: Duration,
    /// Add this to a time of the run for the database's time, in microseconds since 1970. None when a scenario bends
    /// the database's clock: then events are placed by who saw them when, which is coarser.
    pub clock_offset_us: Option<i64>,
    /// How far off that may be.
    #[serde(with = "micros")]
    pub clock_error: Duration,
    /// A watcher further behind than this may get a snapshot instead of what it missed.
    pub replay_max: u64,
    /// When log, presence and rosters were read, in one transaction after the last write, on the run's clock.
    #[serde(with = "micros")]
    pub rest_at: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(45),
            sweep_interval: Duration::from_secs(1),
            leave_grace: Duration::from_secs(5),
            deliver_within: Duration::from_secs(1),
            heal_within: Duration::from_secs(5),
            spread: Duration::ZERO,
            linger: Duration::from_secs(10),
            clock_offset_us: None,
            clock_error: Duration::from_millis(20),
            replay_max: 5000,
            rest_at: Duration::ZERO,
        }
    }
}

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(rename = "at_us", with = "micros")]
    pub at: Duration,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// One HTTP request; a retry is another one.
    Asked(Asked),
    Answered {
        op: u64,
        outcome: Outcome,
    },
    /// A request for the event stream of one room. A stream of several rooms is recorded as one stream per room.
    Opened {
        stream: u64,
        client: String,
        room: String,
        last: Option<Cursor>,
    },
    Frame(Frame),
    Closed {
        stream: u64,
    },
    /// A name that begins with `postgres` says that no replica could write from begin to end: then nobody may expire
    /// until one lease later, when that was longer than three sweep intervals.
    Fault {
        name: String,
        edge: Edge,
        /// The only client that suffers, for a fault such as a stalled reader; none for all of them.
        only: Option<String>,
    },
    /// Ends every fault that has not ended, and starts the clock of healing.
    Healed,
}

/// Begin and end of a fault with one name; it may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    Begin,
    End,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub op: u64,
    pub client: String,
    /// Whose presence it is about; for a kick, who is kicked; for a roster, nobody that matters.
    pub user: String,
    /// Empty for a kick and a roster.
    pub session: String,
    /// Empty for a heartbeat.
    pub room: String,
    pub kind: Kind,
    /// The state that a join or an update sets, as compact JSON.
    pub state: Option<String>,
    /// As it was sent, when it was.
    pub seq: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Join,
    Leave,
    LeaveGrace,
    Update,
    Heartbeat,
    Roster,
    Kick,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// 2xx to a join, leave, update or kick. `member`: whether the answer shows one.
    Ok {
        cursor: Cursor,
        created: bool,
        member: bool,
    },
    /// Of a heartbeat.
    Alive,
    Gone,
    Problem {
        status: u16,
        code: String,
    },
    /// `stale` as the answer says: served while the database is away.
    Roster {
        cursor: Cursor,
        members: Vec<String>,
        stale: bool,
    },
    /// No answer: timeout, reset, refused connection.
    Lost,
}

impl Outcome {
    /// Reads an HTTP answer. None is a 2xx that is not what this kind is answered with.
    pub fn read(kind: Kind, status: u16, body: &Value) -> Option<Self> {
        if !(200..300).contains(&status) {
            let code = body["code"].as_str().unwrap_or_default().to_owned();
            return Some(Self::Problem { status, code });
        }
        let cursor = || body["cursor"].as_str()?.parse().ok();
        match kind {
            Kind::Heartbeat => match body["sessions"][0]["state"].as_str()? {
                "alive" => Some(Self::Alive),
                "gone" => Some(Self::Gone),
                _ => None,
            },
            Kind::Roster => Some(Self::Roster {
                cursor: cursor()?,
                members: ids(&body["members"]),
                stale: body["stale"] == true,
            }),
            _ => Some(Self::Ok {
                cursor: cursor()?,
                created: body["created"] == true,
                member: body["member"].is_object(),
            }),
        }
    }
}

/// A frame of a stream; lists hold user ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    pub stream: u64,
    pub event: FrameEvent,
    /// None for a bye.
    pub cursor: Option<Cursor>,
    /// Of a snapshot or a presence.
    pub members: Vec<String>,
    pub joined: Vec<String>,
    pub updated: Vec<String>,
    pub left: Vec<String>,
    /// Of a snapshot or a bye.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameEvent {
    Snapshot,
    Diff,
    Presence,
    Count,
    Sync,
    Bye,
}

impl Frame {
    /// Reads `event:` and `data:` of a stream of one room. None is a frame that the design does not have.
    pub fn read(stream: u64, event: &str, data: &Value) -> Option<Self> {
        let event: FrameEvent = serde_json::from_value(Value::from(event)).ok()?;
        let cursor = data["cursor"].as_str().and_then(|text| text.parse().ok());
        if cursor.is_none() && event != FrameEvent::Bye {
            return None;
        }
        let [members, joined, updated, left] =
            ["members", "joined", "updated", "left"].map(|n| ids(&data[n]));
        let reason = data["reason"].as_str().map(str::to_owned);
        Some(Self { stream, event, cursor, members, joined, updated, left, reason })
    }
}

fn ids(members: &Value) -> Vec<String> {
    let members = members.as_array().map(Vec::as_slice).unwrap_or_default();
    members.iter().filter_map(|m| m["id"].as_str().map(str::to_owned)).collect()
}

/// A row of `headcount.events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedEvent {
    pub room: String,
    pub version: u64,
    pub kind: EventKind,
    pub user: String,
    pub reason: Option<Reason>,
    /// The member's state, as compact JSON; none for a left, or when a scenario does not set states.
    pub state: Option<String>,
    /// The database's wall clock, in microseconds since 1970.
    pub at_us: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Joined,
    Updated,
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Left,
    Expired,
    Kicked,
}

/// A row of `headcount.memberships`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    pub room: String,
    pub user: String,
    pub session: String,
}

/// A room as `GET /v1/rooms/{room}` shows it at rest. Its epoch is the one that all older ones are compared to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RosterAtRest {
    pub room: String,
    pub cursor: Cursor,
    pub members: Vec<String>,
}

/// `<epoch>.<version>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cursor {
    pub epoch: String,
    pub version: u64,
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (epoch, version) = text.split_once('.').ok_or_else(|| format!("not a cursor: {text}"))?;
        let version = version.parse().map_err(|error| format!("{text}: {error}"))?;
        Ok(Self { epoch: epoch.to_owned(), version })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.version)
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One line of the written form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Settings(Settings),
    Record(Record),
    Log(LoggedEvent),
    Presence(Membership),
    Roster(RosterAtRest),
}

impl Recording {
    /// Writes it, one line a piece.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let lines = [Line::Settings(self.settings.clone())].into_iter();
        let lines = lines.chain(self.records.iter().cloned().map(Line::Record));
        let lines = lines.chain(self.log.iter().cloned().map(Line::Log));
        let lines = lines.chain(self.presence.iter().cloned().map(Line::Presence));
        let lines = lines.chain(self.rosters.iter().cloned().map(Line::Roster));
        for line in lines {
            serde_json::to_writer(&mut to, &line)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    /// Reads what [`Recording::write`] wrote.
    pub fn read(from: impl BufRead) -> io::Result<Self> {
        let mut recording = Self::default();
        for line in from.lines() {
            match serde_json::from_str(&line?)? {
                Line::Settings(settings) => recording.settings = settings,
                Line::Record(record) => recording.records.push(record),
                Line::Log(event) => recording.log.push(event),
                Line::Presence(membership) => recording.presence.push(membership),
                Line::Roster(roster) => recording.rosters.push(roster),
            }
        }
        Ok(recording)
    }
}

/// Durations as whole microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}
