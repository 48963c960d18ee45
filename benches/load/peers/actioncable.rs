//! The widely taught presence channel on Action Cable: Debian's Rails packages, puma and Redis, our own program in
//! `benches/peers/actioncable`. A Redis hash of timestamps, clean-up by heartbeats, the whole list to all on each
//! change. For fan-out alone it also has a channel that passes 200 bytes on.

use std::net::SocketAddr;

use super::{HttpPublisher, Peer, text_message, until_listening, upgrade};
use crate::process::{Launch, OTHER_CORE, SERVER_CORE};
use crate::request::post;
use crate::stage::{Stage, free_port, peers_folder};
use crate::watchers::Script;

pub async fn start(stage: &Stage) -> Result<Peer, String> {
    for program in ["puma", "redis-server"] {
        if !["/usr/bin", "/usr/local/bin"]
            .iter()
            .any(|folder| std::path::Path::new(folder).join(program).exists())
        {
            return Err(format!("{program} is not installed (scripts/bootstrap peers)"));
        }
    }
    let database = stage.database("cable").await;
    database
        .execute(
            "create table public.users (id text primary key, name text not null, avatar_url text);
             insert into public.users select 'mk~' || lpad(n::text, 8, '0'), 'Somebody', null from generate_series(0, 20000) n",
        )
        .await;
    let (redis_port, port) = (free_port(), free_port());
    let redis = Launch::new("redis-server", Some(OTHER_CORE))
        .args(["--port", &redis_port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--client-output-buffer-limit", "pubsub 0 0 0"])
        .spawn();
    let nowhere = std::path::Path::new("/dev/null");
    until_listening(SocketAddr::from(([127, 0, 0, 1], redis_port)), nowhere)?;
    let log = stage.data.path().join(format!("cable-{port}"));
    let socket = database.options.get_socket().expect("a private Postgres has a socket");
    let server = Launch::new("puma", Some(SERVER_CORE))
        .args(["--bind", &format!("tcp://127.0.0.1:{port}?backlog=4096"), "--threads", "5:5", "config.ru"])
        .directory(&peers_folder().join("actioncable"))
        .env("RACK_ENV", "production")
        .env("REDIS_URL", format!("redis://127.0.0.1:{redis_port}/0"))
        .env("PGHOST", socket)
        .env("PGUSER", "postgres")
        .env("PGDATABASE", &database.name)
        .log(&log)
        .spawn();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until_listening(address, &log)?;
    let publisher = HttpPublisher::new(address, 1, |first, count| {
        vec![post(&format!("/publish?first={first}&count={count}"), "", "")]
    });
    Ok(Peer { server, address, script: watching(), publisher, _others: vec![redis] })
}

/// Of what is passed on.
pub fn watching() -> Script {
    subscribing("FanChannel", "watcher")
}

/// Hearing of presence without being present.
pub fn watching_presence() -> Script {
    subscribing("WatchChannel", "watcher")
}

/// Being present is watching, in the lesson.
pub fn present(user: &str) -> Script {
    subscribing("PresenceChannel", user)
}

fn subscribing(channel: &str, user: &str) -> Script {
    let more = format!("sec-websocket-protocol: actioncable-v1-json\r\nx-user: {user}\r\n");
    let command = format!(r#"{{"command":"subscribe","identifier":"{{\"channel\":\"{channel}\"}}"}}"#);
    Script {
        hello: upgrade("/cable", &more),
        then: Some((b"welcome", text_message(&command))),
        ready: b"confirm_subscription",
    }
}

/// The message of a heartbeat; the server answers `beaten`.
pub fn heartbeat() -> Vec<u8> {
    text_message(
        r#"{"command":"message","identifier":"{\"channel\":\"PresenceChannel\"}","data":"{\"action\":\"heartbeat\"}"}"#,
    )
}
