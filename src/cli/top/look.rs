//! One poll of a service.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::time::Instant;

use crate::cli::client::Client;
use crate::cli::metrics::Metrics;
use crate::cli::refusal::CallError;
use crate::domain::cursor::Cursor;

/// Whole seconds of the log over which the rates of events are averaged.
pub const SECONDS: u32 = 10;

/// Rooms whose positions are read concurrently, at most.
const AT_ONCE: usize = 4;

/// The result of a poll.
pub struct Look {
    /// The time of the poll.
    pub at: Instant,
    /// The whole deployment.
    pub overview: OverviewAnswer,
    /// Metrics of the replica that answers; there are none if it does not serve them here.
    pub metrics: Metrics,
    /// The position of each room.
    pub positions: BTreeMap<String, Cursor>,
}

/// `GET /v1/admin/overview`
#[derive(Deserialize)]
pub struct OverviewAnswer {
    pub rooms: i64,
    pub members: i64,
    pub sessions: i64,
    pub fullest: Vec<Room>,
    pub seconds: Vec<Second>,
    pub sweep: SweepAge,
    pub replicas: Vec<ReplicaRow>,
    pub here: AnsweringReplica,
}

/// A room.
#[derive(Deserialize)]
pub struct Room {
    pub room: String,
    pub count: i64,
}

/// Events of a second.
#[derive(Deserialize)]
pub struct Second {
    pub joined: u64,
    pub updated: u64,
    pub left: u64,
}

/// The sweep.
#[derive(Deserialize)]
pub struct SweepAge {
    pub age_ms: u64,
    pub recovering: bool,
}

/// A replica.
#[derive(Deserialize)]
pub struct ReplicaRow {
    pub name: String,
    pub connections: i64,
    pub listening: bool,
    pub quiet_ms: u64,
}

/// The replica that answers.
#[derive(Deserialize)]
pub struct AnsweringReplica {
    pub name: String,
    pub watchers: u64,
    pub stale: bool,
}

#[derive(Deserialize)]
struct Position {
    cursor: String,
}

impl Look {
    /// Polls the service.
    pub async fn take(client: &Client, rooms: u8) -> Result<Self, CallError> {
        let overview = format!("/v1/admin/overview?seconds={SECONDS}&rooms={rooms}");
        let overview: OverviewAnswer = client.get(&overview).await?;
        let metrics = Metrics::read(client).await;
        let at = Instant::now();
        let positions = stream::iter(&overview.fullest).map(|room| position(client, &room.room));
        let positions: Vec<_> = positions.buffer_unordered(AT_ONCE).collect().await;
        Ok(Self { at, overview, metrics, positions: positions.into_iter().flatten().collect() })
    }

    /// Growth per second of a metric of the replica since `before`. None if it is unknown: the metric is
    /// absent, another replica answered, or the replica was restarted.
    pub fn rate(&self, before: &Self, metric: &str) -> Option<f64> {
        if self.overview.here.name != before.overview.here.name {
            return None;
        }
        let grown = self.metrics.total(metric)? - before.metrics.total(metric)?;
        (grown >= 0.0).then(|| grown / self.seconds_since(before))
    }

    /// Changes of a room per second since `before`. None if the room was not polled then, or another epoch
    /// has begun.
    pub fn changes(&self, before: &Self, room: &str) -> Option<f64> {
        let (now, then) = (self.positions.get(room)?, before.positions.get(room)?);
        let versions = u32::try_from(now.version - then.version).ok().filter(|_| now.epoch == then.epoch)?;
        Some(f64::from(versions) / self.seconds_since(before))
    }

    fn seconds_since(&self, before: &Self) -> f64 {
        self.at.duration_since(before.at).as_secs_f64().max(0.001)
    }
}

/// A room that cannot be read now has no rate now.
async fn position(client: &Client, room: &str) -> Option<(String, Cursor)> {
    let found: Position = client.get(&format!("/v1/rooms/{room}?limit=1")).await.ok()?;
    Some((room.to_owned(), found.cursor.parse().ok()?))
}
