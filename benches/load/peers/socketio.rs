//! Socket.IO with its Postgres adapter: two Node processes on one Postgres, our own program in
//! `benches/peers/socketio`. Watchers are on the first; what is published may go in at either.

use std::net::SocketAddr;

use super::{HttpPublisher, Peer, text_message, until_listening, upgrade};
use crate::process::{Launch, OTHER_CORE, Process, SERVER_CORE};
use crate::request::post;
use crate::stage::{Database, Stage, free_port, peers_folder};
use crate::watchers::Script;

/// One Node process.
pub struct Node {
    pub process: Process,
    pub address: SocketAddr,
}

/// A server that fans out from its own process.
pub async fn start(stage: &Stage) -> Result<Peer, String> {
    let database = stage.database("socketio").await;
    let node = node(stage, &database, Some(SERVER_CORE))?;
    let publisher = HttpPublisher::new(node.address, 1, |first, count| {
        vec![post(&format!("/publish?first={first}&count={count}"), "", "")]
    });
    Ok(Peer {
        server: node.process,
        address: node.address,
        script: watching(),
        publisher,
        _others: Vec::new(),
    })
}

/// Starts one.
pub fn node(stage: &Stage, database: &Database, core: Option<usize>) -> Result<Node, String> {
    let folder = peers_folder().join("socketio");
    if !folder.join("node_modules/socket.io").exists() {
        return Err("benches/peers/socketio is not installed (scripts/bootstrap peers)".into());
    }
    let port = free_port();
    let log = stage.data.path().join(format!("socketio-{port}"));
    let socket = database.options.get_socket().expect("a private Postgres has a socket");
    let process = Launch::new("node", core)
        .args(["server.js", &port.to_string()])
        .directory(&folder)
        .env("PGHOST", socket)
        .env("PGUSER", "postgres")
        .env("PGDATABASE", &database.name)
        .env("NODE_ENV", "production")
        .log(&log)
        .spawn();
    let address = format!("127.0.0.1:{port}").parse().expect("a port is a number");
    until_listening(address, &log)?;
    Ok(Node { process, address })
}

/// The second process, which is not measured but used.
pub fn other_node(stage: &Stage, database: &Database) -> Result<Node, String> {
    node(stage, database, Some(OTHER_CORE))
}

/// The packet `40` connects to the main namespace, after the server's `0`.
pub fn watching() -> Script {
    let hello = upgrade("/socket.io/?EIO=4&transport=websocket", "");
    Script { hello, then: Some((b"\"pingInterval\"", text_message("40"))), ready: b"40{\"sid\"" }
}
