//! headcount itself as one that fans out. What is published is a join, and then the leave of the same user, so that
//! the room stays small: through HTTP, the writer, the commit, the feed and the ring, as always.

use std::collections::VecDeque;

use super::{HttpPublisher, Peer};
use crate::request::{get, post};
use crate::stage::{Setup, Stage, token};
use crate::watchers::{Script, mark};

/// Connections for what is published at once.
const CONNECTIONS: usize = 64;

pub async fn start(stage: &Stage) -> Peer {
    let database = stage.database("fan").await;
    let replica = database.replica(Setup { pinned: true, ..Setup::default() });
    let publisher = HttpPublisher::new(replica.address, CONNECTIONS, changes("fan"));
    Peer {
        server: replica.process,
        address: replica.address,
        script: watching("fan"),
        publisher,
        _others: Vec::new(),
    }
}

/// How a room is watched.
pub fn watching(room: &str) -> Script {
    let hello = get(&format!("/v1/rooms/{room}/events"), &token("watcher"), "");
    Script { hello, then: None, ready: b"event: snapshot" }
}

/// Requests that are heard: joins, and when as many as last time are asked for again, their leaves.
fn changes(room: &str) -> impl FnMut(u64, u64) -> Vec<Vec<u8>> + 'static {
    let mut present: VecDeque<(String, uuid::Uuid)> = VecDeque::new();
    let room = room.to_owned();
    move |first, count| {
        if present.len() as u64 >= count {
            let leaving = present.drain(..usize::try_from(count).unwrap_or(0));
            return leaving.map(|(token, session)| leave(&room, &token, session)).collect();
        }
        (first..first + count)
            .map(|number| {
                let (token, session) = (token(&mark(number)), uuid::Uuid::new_v4());
                present.push_back((token.clone(), session));
                join(&room, &token, session)
            })
            .collect()
    }
}

pub fn join(room: &str, token: &str, session: uuid::Uuid) -> Vec<u8> {
    post(&format!("/v1/rooms/{room}/join"), token, &format!("{{\"session\":\"{session}\"}}"))
}

pub fn leave(room: &str, token: &str, session: uuid::Uuid) -> Vec<u8> {
    post(&format!("/v1/rooms/{room}/leave"), token, &format!("{{\"session\":\"{session}\"}}"))
}
