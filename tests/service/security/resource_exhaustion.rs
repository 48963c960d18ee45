//! Requests that come too slowly, are too large or too many at once: each is answered or cut, and costs its sender more
//! than others. How others fare meanwhile is measured by `make attack`.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::deployment::{Client, PATIENCE, start, start_with, tuning};

/// A connection on which everything is said by hand.
async fn connect(client: &Client) -> TcpStream {
    TcpStream::connect(client.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Everything that is answered until the connection is closed.
async fn until_closed(mut socket: TcpStream) -> String {
    let reading = async {
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes).await; // a reset is an end too
        String::from_utf8_lossy(&bytes).into_owned()
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the connection is closed in time")
}

fn head(client: &Client, length: usize) -> String {
    format!(
        "POST /v1/rooms/lobby/join HTTP/1.1\r\nhost: headcount\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n",
        client.credential
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_is_cut_with_408() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let silent = connect(&ann).await;
    let mut half = connect(&ann).await;
    half.write_all(b"GET /livez HTTP/1.1\r\nhost: head").await.unwrap();
    for socket in [silent, half] {
        let answer = until_closed(socket).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_cut_with_408_however_often_a_byte_of_it_does() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut socket = connect(&ann).await;
    socket.write_all(head(&ann, 1000).as_bytes()).await.unwrap();
    let (mut reading, mut writing) = socket.into_split();
    let dripping = tokio::spawn(async move {
        let mut often = tokio::time::interval(std::time::Duration::from_millis(100));
        while writing.write_all(b" ").await.is_ok() {
            often.tick().await;
        }
    });
    let mut answer = vec![0; 4096];
    let read =
        tokio::time::timeout(PATIENCE, reading.read(&mut answer)).await.expect("an answer in time").unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
    tokio::time::timeout(PATIENCE, dripping).await.expect("the connection is closed in time").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_end_that_nobody_reads_ends_its_connection() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let credential = format!("authorization: Bearer {}\r\n", ann.credential);
    let chunks = ("transfer-encoding: chunked\r\n\r\n", "1\r\n \r\n");
    let length = ("content-length: 1000000\r\n\r\n", " ");
    for (request, more, (framing, piece), status) in [
        ("POST /nope", "", chunks, 404),
        ("POST /nope", "", length, 404),
        ("POST /livez", "", chunks, 405),
        ("GET /livez", "", chunks, 200),
        ("POST /v1/rooms/lobby/join", "", chunks, 401),
        ("GET /v1/rooms/lobby", &credential, chunks, 200),
        ("POST /v1/rooms/lobby/join", &credential, ("transfer-encoding: chunked\r\n\r\n", "fffff\r\n"), 413),
    ] {
        let mut socket = connect(&ann).await;
        let start = format!("{request} HTTP/1.1\r\nhost: headcount\r\n{more}{framing}");
        socket.write_all(start.as_bytes()).await.unwrap();
        let piece = if status == 413 { piece.to_owned() + &"x".repeat(64 * 1024) } else { piece.to_owned() };
        let (mut reading, mut writing) = socket.into_split();
        let dripping = tokio::spawn(async move {
            let mut often = tokio::time::interval(Duration::from_millis(50));
            while writing.write_all(piece.as_bytes()).await.is_ok() {
                often.tick().await;
            }
        });
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(PATIENCE, reading.read(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        let ended = tokio::time::timeout(PATIENCE, dripping).await;
        ended.unwrap_or_else(|_| panic!("{request}: the connection is closed in time")).unwrap();
    }
    // A body in chunks that its handler reads costs nobody the connection.
    let mut socket = connect(&ann).await;
    let body = ann.with(json!({})).to_string();
    let chunked = format!(
        "POST /v1/rooms/lobby/join HTTP/1.1\r\nhost: headcount\r\ncontent-type: application/json\r\n\
         {credential}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for _ in 0..3 {
        socket.write_all(chunked.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(r#""cursor":"#) {
            assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "it is answered");
        }
        assert!(is_served(&mut socket).await, "and the connection stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_all_there() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    // None of these is sent to its end: the answer comes all the same.
    for (start, piece, status) in [
        (head(&ann, 100_000_000), "x".repeat(64 * 1024), 413),
        ("GET /livez HTTP/1.1\r\nhost: headcount\r\nx-long: ".to_owned(), "x".repeat(256 * 1024), 431),
        ("GET /".to_owned(), "x".repeat(256 * 1024), 431),
        (
            "GET /livez HTTP/1.1\r\nhost: headcount\r\n".to_owned(),
            (0..1000).map(|n| format!("x-{n}: 1\r\n")).collect::<String>() + "\r\n",
            431,
        ),
    ] {
        let mut socket = connect(&ann).await;
        socket.write_all(start.as_bytes()).await.unwrap();
        let _ = socket.write_all(piece.as_bytes()).await; // it may be cut while this is sent
        let answer = until_closed(socket).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{status} for {:.40}: {answer}", start);
    }
    let long = ann.get(&format!("/v1/rooms/{}", "r".repeat(60_000))).await;
    assert_eq!(long.problem(), (400, "invalid_room"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_one_packet_are_answered_one_after_the_other() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut socket = connect(&ann).await;
    let body = ann.with(json!({})).to_string();
    let mut request = head(&ann, body.len()) + &body;
    request = request.repeat(100) + "GET /livez HTTP/1.1\r\nhost: headcount\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let answers = until_closed(socket).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 101, "{answers}");
    assert_eq!(answers.matches(r#""created":true"#).count(), 1);
    assert!(answers.ends_with("\r\n\r\nok"), "{answers}");
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}

/// Whether the service answers on this connection, which then stays open.
async fn is_served(socket: &mut TcpStream) -> bool {
    let asked = socket.write_all(b"GET /livez HTTP/1.1\r\nhost: headcount\r\n\r\n").await;
    let mut answer = Vec::new();
    while asked.is_ok() && !answer.ends_with(b"\r\n\r\nok") {
        match socket.read_buf(&mut answer).await {
            Ok(read) if read > 0 => {}
            _ => return false,
        }
    }
    asked.is_ok()
}

/// Watches the lobby, and reads up to the first snapshot.
async fn watching(client: &Client) -> (TcpStream, String) {
    let mut socket = connect(client).await;
    socket.write_all(watching_head(client, "HTTP/1.1", "").as_bytes()).await.unwrap();
    let heard = hear(&mut socket, "event: snapshot").await;
    (socket, heard)
}

/// Reads until a frame of that kind is complete.
async fn hear(socket: &mut TcpStream, kind: &str) -> String {
    let mut heard = Vec::new();
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&heard).into_owned();
            if text.split_once(kind).is_some_and(|(_, frame)| frame.contains("\n\n")) {
                return text;
            }
            assert!(socket.read_buf(&mut heard).await.unwrap() > 0, "closed after {text}");
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it comes in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_its_connection_to_itself_until_the_client_goes() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let (mut socket, heard) = watching(&ann).await;
    let head = heard.split("\r\n\r\n").next().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let names = [
        "content-type: text/event-stream",
        "cache-control: no-store",
        "connection: close",
        "transfer-encoding: chunked",
        "date: ",
        "x-request-id: ",
    ];
    for name in names {
        assert_eq!(head.matches(&format!("\r\n{name}")).count(), 1, "{name} in {head}");
    }
    assert!(!head.contains("content-length"), "{head}");

    socket.write_all(&b"GET /livez HTTP/1.1\r\nhost: headcount\r\n\r\n".repeat(100)).await.unwrap();
    ann.join("lobby").await;
    let heard = hear(&mut socket, "event: diff").await;
    assert!(!heard.contains("HTTP/1.1"), "nothing else is answered on it: {heard}");

    socket.shutdown().await.unwrap();
    assert!(!until_closed(socket).await.contains("event: sync"), "closed at once, not when next written to");
}

/// The head of a request to watch the lobby.
fn watching_head(client: &Client, version: &str, more: &str) -> String {
    let credential = &client.credential;
    format!(
        "GET /v1/rooms/lobby/events {version}\r\nhost: headcount\r\nauthorization: Bearer {credential}\r\n{more}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pipelined_behind_a_stream_is_never_run_and_takes_no_place() {
    let mut tuning = tuning();
    tuning.limits.streams_per_replica = 16;
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    let body = ann.with(json!({})).to_string();
    let join = head(&ann, body.len()) + &body;
    let stream = watching_head(&ann, "HTTP/1.1", "");
    let packets = [
        stream.repeat(2),
        stream.repeat(3),
        stream.repeat(16), // as many as actix reads ahead
        stream.clone() + &join,
        stream.clone() + &join + &stream,
        watching_head(&ann, "HTTP/1.0", "").repeat(2),
        watching_head(&ann, "HTTP/1.0", "connection: keep-alive\r\n").repeat(2),
        watching_head(&ann, "HTTP/1.1", "content-length: 5\r\n") + "12345" + &stream,
        watching_head(&ann, "HTTP/1.1", "content-length: 5000\r\n") + "12345" + &stream,
        watching_head(&ann, "HTTP/1.1", "transfer-encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n" + &stream,
        watching_head(&ann, "HTTP/1.1", "expect: 100-continue\r\n") + &stream,
    ];
    for packet in &packets {
        let mut socket = connect(&ann).await;
        socket.write_all(packet.as_bytes()).await.unwrap();
        let heard = hear(&mut socket, "event: snapshot").await;
        assert_eq!(heard.matches(" 200 OK\r\n").count(), 1, "{packet} gave {heard}");
    }
    // The service has to notice that those clients are gone. Then all places are free at once.
    let free = async {
        loop {
            let streams = (0..16).map(|_| ann.request(Method::GET, "/v1/rooms/lobby/events").send());
            if join_all(streams).await.into_iter().all(|opened| opened.unwrap().status() == 200) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("every place is given back");
    assert_eq!(deployment.log("lobby").await, [""; 0], "no join behind a stream is run");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pipelined_before_a_stream_is_answered_before_it() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let body = ann.with(json!({})).to_string();
    let packet = (head(&ann, body.len()) + &body).repeat(2) + &watching_head(&ann, "HTTP/1.1", "");
    let mut socket = connect(&ann).await;
    socket.write_all(packet.as_bytes()).await.unwrap();
    let heard = hear(&mut socket, "event: snapshot").await;
    let (before, _) = heard.split_once("content-type: text/event-stream").unwrap();
    assert_eq!(before.matches(r#""created":"#).count(), 2, "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections_and_no_more() {
    let mut tuning = tuning();
    tuning.limits.connections_per_address = 3;
    let mut deployment = start_with(1, tuning.clone()).await;
    let ann = deployment.user("ann");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut socket = connect(&ann).await;
        assert!(is_served(&mut socket).await);
        open.push(socket);
    }
    open.push(watching(&ann).await.0); // a stream is one of them as long as it is open
    assert!(!is_served(&mut connect(&ann).await).await, "one more is closed");
    assert!(is_served(&mut open[0]).await, "what is open stays");
    drop(open.pop());
    // The service has to notice that it is gone.
    let again = async { while !is_served(&mut connect(&ann).await).await {} };
    tokio::time::timeout(PATIENCE, again).await.expect("its place is given back");
    // A proxy of ours stands for many.
    tuning.limits.trusted_proxies = "127.0.0.0/8".parse().unwrap();
    deployment.add(tuning);
    let ann = deployment.user_at(1, "ann");
    let mut many = Vec::new();
    for _ in 0..5 {
        let mut socket = connect(&ann).await;
        assert!(is_served(&mut socket).await);
        many.push(socket);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_mid_request_poison_no_connection() {
    let deployment = start_with(1, tuning()).await;
    let requests = (0..300).map(|n| {
        let client = deployment.user(&format!("u{n}"));
        async move {
            // Cut at any point: before, while and after the command runs.
            let patience = Duration::from_micros(n * 40);
            let _ = tokio::time::timeout(patience, client.join_with("lobby", json!({}))).await;
            let _ = tokio::time::timeout(patience, client.get("/v1/rooms/lobby")).await;
        }
    });
    join_all(requests).await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    ann.leave("lobby").await;
    let idle = "select count(*) from pg_stat_activity \
                where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(deployment.value(idle).await, 0);
}
