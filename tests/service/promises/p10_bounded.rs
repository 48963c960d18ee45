//! **P10** Bounded: a stream holds at most 256 KiB; a watcher that is too slow gets `bye {slow}` and resumes.
//!
//! Of few watchers and of all, suspended and slow, through links that are held: in `tests/faults`,
//! `watchers_suspended`. Over TLS: `security/tls.rs`.

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::deployment::{Client, PATIENCE, start};

/// Members with a state of 900 bytes: a list of them is about 40 KB.
const MEMBERS: usize = 40;

/// Lists: 1.6 MB, far more than 256 KiB and what the sockets of both sides buffer.
const LISTS: usize = 40;

const LIST: &str = "/v1/rooms/lobby/events?mode=list";

/// A stream that was answered, of which no more is read. Its receive buffer is small.
async fn stalled(client: &Client) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let address = client.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let credential = &client.credential;
    let ask = format!("GET {LIST} HTTP/1.1\r\nhost: headcount\r\nauthorization: Bearer {credential}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_watcher_that_does_not_read_is_cut_as_slow_and_resumes() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    let fat = json!({"fat": "x".repeat(900)});
    let members: Vec<Client> = (0..MEMBERS).map(|_| server.tab()).collect();
    let joins = members.iter().enumerate().map(async |(n, member)| {
        member.join_with("lobby", json!({"user": format!("u{n:02}"), "state": fat})).await.ok()
    });
    join_all(joins).await;

    let mut slow = stalled(&ann).await;
    let mut quick = ann.watch_path(LIST, None).await;
    quick.next().await;
    for n in 0..LISTS {
        members[0].update("lobby", json!({"user": "u00", "state": {"n": n}})).await.ok();
        quick.until_event("presence").await; // a frame for each change: nothing is coalesced
    }

    let mut heard = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut heard));
    reading.await.expect("it is cut").unwrap();
    let heard = String::from_utf8(heard).unwrap();
    let (before, bye) = heard.split_once("event: bye").expect("it is told so");
    assert!(bye.contains(r#""reason":"slow""#), "{bye}");
    let got = before.matches("event: presence").count();
    assert!(got < LISTS, "{got} lists were held for it");

    let last = before.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
    let first = ann.watch_path(LIST, last).await.next().await.unwrap();
    assert_eq!(first.data["members"][0]["state"], json!({"n": LISTS - 1}), "it is where the others are");
}
