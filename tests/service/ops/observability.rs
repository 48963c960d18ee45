//! Following one request: its id, its line in the log, its trace.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::deployment::{Client, JWT_SECRET, PATIENCE, SERVER_KEY, start_with, tuning};
use crate::support::process::service;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn id_of(client: &Client, path: &str, given: Option<&str>) -> String {
    let mut request = client.request(Method::GET, path);
    if let Some(id) = given {
        request = request.header("x-request-id", id);
    }
    let response = request.send().await.unwrap();
    response.headers()["x-request-id"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_its_request_id() {
    let mut tuning = tuning();
    tuning.limits.requests_per_address = 4; // 20 at once
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    for path in [
        "/livez",
        "/v1/rooms/lobby",
        "/v1/rooms/lobby/events",
        "/nothing",
        "/v1/rooms/lobby?limit=x",
        "/metrics",
    ] {
        assert_eq!(id_of(&ann, path, Some("web-1:7.a_b~c")).await, "web-1:7.a_b~c", "{path}");
    }
    let made = id_of(&ann, "/livez", None).await;
    assert!(made.len() == 16 && made.chars().all(|c| c.is_ascii_hexdigit()), "{made}");
    assert_ne!(id_of(&ann, "/livez", None).await, made);
    for odd in ["", "a b", "a\"b", "{}", &"x".repeat(65)] {
        assert_ne!(id_of(&ann, "/livez", Some(odd)).await, odd);
    }
    // Also one that is refused before anything looks at it.
    let refused = async {
        loop {
            let response =
                ann.request(Method::GET, "/livez").header("x-request-id", "often").send().await.unwrap();
            if response.status() == 429 {
                return response;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("too many requests");
    assert_eq!(refused.headers()["x-request-id"], "often");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_request_trace_route_and_status_and_neither_path_nor_query() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let settings = [("HEADCOUNT_LOG", "info,headcount=debug"), ("HEADCOUNT_LOG_FORMAT", "json")];
    let (_deployment, process) = service(&settings, Stdio::from(File::create(&log).unwrap())).await;
    let ann = process.user("ann");
    let request = ann.request(Method::GET, "/v1/rooms/a-room-of-mine?limit=77");
    let request = request
        .header("x-request-id", "find-me")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-00"));
    request.send().await.unwrap();
    ann.request(Method::GET, "/livez").header("traceparent", "00-nonsense-01").send().await.unwrap();
    drop(process);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["fields"]["request_id"] == "find-me").expect("its line");
    let fields = &line["fields"];
    assert_eq!((&fields["trace_id"], &fields["method"]), (&json!(TRACE), &json!("GET")), "{line}");
    assert_eq!((&fields["route"], &fields["status"]), (&json!("/v1/rooms/{room}"), &json!(200)), "{line}");
    assert!(fields["ms"].as_f64().unwrap() > 0.0, "{line}");
    assert_eq!(line["level"], "DEBUG");
    assert!(!text.contains("a-room-of-mine") && !text.contains("limit=77"), "{text}");
    let livez = lines.iter().find(|line| line["fields"]["route"] == "/livez").expect("its line");
    assert_eq!(livez["fields"]["trace_id"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_is_logged_once_with_the_request_that_it_failed_for() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (deployment, process) =
        service(&[("HEADCOUNT_LOG_FORMAT", "json")], Stdio::from(File::create(&log).unwrap())).await;
    let ann = process.user("ann");
    deployment.execute("alter schema headcount rename to elsewhere").await;
    let request = ann.request(Method::GET, "/v1/rooms/lobby").header("x-request-id", "find-me");
    assert_eq!(request.send().await.unwrap().status(), 500);
    drop(process);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("find-me")).collect();
    let causes = lines.iter().filter(|line| line.contains("does not exist") && line.contains("WARN"));
    assert_eq!(causes.count(), 1, "{text}");
    assert!(lines.iter().any(|line| line.contains("ERROR") && line.contains("answered")), "{text}");
}

/// What is posted to an address, as `path` and body; each is answered with 200.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (posted, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let posted = posted.clone();
            std::thread::spawn(move || serve(&stream.unwrap(), &posted));
        }
    });
    (address, heard)
}

fn serve(mut stream: &std::net::TcpStream, posted: &mpsc::Sender<(String, Vec<u8>)>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("post ") {
                path = rest.split(' ').next().unwrap().to_owned();
            }
            if let Some(rest) = line.strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let _ = posted.send((path, body)); // the test may be over
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

fn bytes_of(trace: &str) -> Vec<u8> {
    (0..trace.len()).step_by(2).map(|at| u8::from_str_radix(&trace[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_from_the_request_to_the_commit_and_reaches_the_collector() {
    let (address, heard) = collector();
    let settings = [
        ("HEADCOUNT_OTLP_ENDPOINT", address.as_str()),
        ("HEADCOUNT_OTLP_SAMPLE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let (_deployment, process) = service(&settings, Stdio::inherit()).await;
    let ann = process.user("ann");
    let join = async |flags: &str, trace: &str, room: &str| {
        let request = ann.request(Method::POST, &format!("/v1/rooms/{room}/join"));
        let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-{flags}"));
        assert_eq!(request.json(&ann.with(json!({}))).send().await.unwrap().status(), 200);
    };
    let other = "11111111111111111111111111111111";
    join("00", other, "silent").await; // not chosen by whoever began it
    ann.join("lobby").await; // nor by the share, which is none
    join("01", TRACE, "lobby").await;
    let mut all = Vec::new();
    let needed: [&[u8]; 4] = [&bytes_of(TRACE), b"request", b"batch", b"commit"];
    while !needed.iter().all(|part| contains(&all, part)) {
        let (path, body) = heard.recv_timeout(PATIENCE).expect("spans in time");
        assert_eq!(path, "/v1/traces");
        all.extend(body);
    }
    assert!(contains(&all, b"/v1/rooms/{room}/join") && contains(&all, b"headcount"));
    assert!(contains(&all, &bytes_of("00f067aa0ba902b7")), "its parent is the caller's span");
    assert!(!contains(&all, &bytes_of(other)) && !contains(&all, b"silent"));
}

#[test]
fn a_collector_that_is_no_address_is_named() {
    for (name, value) in [("HEADCOUNT_OTLP_ENDPOINT", "collector:4317"), ("HEADCOUNT_OTLP_SAMPLE", "2")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
        command.args(["serve", "--database-url", "postgres://localhost/none"]).env(name, value);
        command.env("HEADCOUNT_SERVER_KEY", SERVER_KEY).env("HEADCOUNT_JWT_SECRET", JWT_SECRET);
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        let named = name.trim_start_matches("HEADCOUNT_").to_lowercase().replace('_', "-");
        assert!(!output.status.success() && (told.contains(name) || told.contains(&named)), "{told}");
    }
}
