//! TLS to clients: streams, pipelining, renewal, draining, bounds before anybody says who they are, and what sockets are set to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headcount::auth::Rights;
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use sqlx::ConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::certificates::Authority;
use crate::support::deployment::{Deployment, PATIENCE, start_with, token, tuning};
use crate::support::process::{Process, serve_with};

struct Secure {
    authority: Authority,
    process: Process,
    _deployment: Deployment,
}

async fn secure() -> Secure {
    let (authority, deployment) = (Authority::new(), start_with(0, tuning()).await);
    authority.issue(&["first.test"]);
    let url = deployment.database.options.to_url_lossy().to_string();
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let process = serve_with(&url, &["--tls-cert", &cert, "--tls-key", &key, "--workers", "1"]);
    Secure { authority, process, _deployment: deployment }
}

impl Secure {
    async fn connect(&self, config: Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let address = self.process.address.strip_prefix("https://").expect("it says that it speaks TLS");
        let socket = TcpStream::connect(address).await?;
        TlsConnector::from(config).connect(ServerName::try_from(name.to_owned()).unwrap(), socket).await
    }

    /// A connection that has said this.
    async fn say(&self, words: &str) -> Conversation {
        let mut tls = self.connect(self.authority.client(b"http/1.1"), "first.test").await.unwrap();
        tls.write_all(words.as_bytes()).await.unwrap();
        Conversation { tls, text: String::new() }
    }
}

fn head(method: &str, path: &str, more: &str) -> String {
    let credential = token("ann", Rights::everywhere());
    format!(
        "{method} {path} HTTP/1.1\r\nhost: first.test\r\nauthorization: Bearer {credential}\r\n{more}\r\n"
    )
}

/// What was said on a connection.
struct Conversation {
    tls: TlsStream<TcpStream>,
    text: String,
}

impl Conversation {
    /// Reads until these words, or to the end.
    async fn until(&mut self, words: &str) -> bool {
        let reading = async {
            while !self.text.contains(words) {
                let mut bytes = [0; 4096];
                let read = self.tls.read(&mut bytes).await.unwrap_or(0); // a reset is an end too
                if read == 0 {
                    return false;
                }
                self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            true
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("in time")
    }
}

/// Over HTTP/1.1: the answer, which is short.
async fn ask(tls: &mut TlsStream<TcpStream>, connection: &str) -> String {
    let request = format!("GET /livez HTTP/1.1\r\nhost: first.test\r\nconnection: {connection}\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\nok") {
        let mut bytes = [0; 1024];
        let read = tls.read(&mut bytes).await.unwrap();
        assert!(read > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert!(answer.to_ascii_lowercase().contains("strict-transport-security: max-age=31536000"), "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_over_tls_and_nothing_pipelined_behind_them_is_run() {
    let secure = secure().await;
    let body = json!({"session": uuid::Uuid::new_v4()}).to_string();
    let more = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let join = head("POST", "/v1/rooms/lobby/join", &more) + &body;
    let watch = head("GET", "/v1/rooms/lobby/events", "");
    let mut alone = secure.say(&watch).await;
    let mut piped = secure.say(&(watch.clone() + &join + &watch)).await;
    for stream in [&mut alone, &mut piped] {
        assert!(stream.until("event: snapshot").await, "{}", stream.text);
        assert!(stream.text.contains(r#""members":[]"#), "{}", stream.text);
    }
    let mut joined = secure.say(&(join + &watch)).await;
    assert!(joined.until("event: snapshot").await, "{}", joined.text);
    assert!(joined.text.contains(r#""created":true"#), "{}", joined.text);
    for stream in [&mut alone, &mut piped] {
        assert!(stream.until(r#""joined":[{"id":"ann""#).await, "{}", stream.text);
        assert_eq!(stream.text.matches("200 OK").count(), 1, "{}", stream.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_over_tls_are_bounded_in_size_and_time_before_anybody_says_who_they_are() {
    let secure = secure().await;
    let large = format!("GET /livez HTTP/1.1\r\nhost: first.test\r\nx-long: {}", "x".repeat(256 * 1024));
    let many: String = (0..1000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let slow = "GET /livez HTTP/1.1\r\nhost: fir".to_owned();
    for (words, status) in
        [(large, 431), (head("GET", "/livez", &many), 431), (slow, 408), (String::new(), 408)]
    {
        let mut cut = secure.connect(secure.authority.client(b"http/1.1"), "first.test").await.unwrap();
        let _ = cut.write_all(words.as_bytes()).await; // it may be cut while this is sent
        let mut cut = Conversation { tls: cut, text: String::new() };
        assert!(!cut.until("no such words").await);
        assert!(
            cut.text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{status} for {:.40}: {}",
            words,
            cut.text
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_not_spoken() {
    let secure = secure().await;
    let refused = secure.connect(secure.authority.client(b"h2"), "first.test").await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut cut = secure.say(preface).await;
    assert!(!cut.until("no such words").await);
    assert!(cut.text.starts_with("HTTP/1.1 400 "), "{}", cut.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let secure = secure().await;
    // A new one each time: one that comes again resumes its session, and is shown no certificate.
    let client = || secure.authority.client(b"http/1.1");
    let mut early = secure.connect(client(), "first.test").await.unwrap();
    assert!(ask(&mut early, "keep-alive").await.starts_with("HTTP/1.1 200 OK"));
    assert!(secure.connect(client(), "second.test").await.is_err());
    std::fs::write(secure.authority.file("cert.pem"), "half a certifi").unwrap();
    secure.authority.issue(&["second.test"]);
    let renewed = async { while secure.connect(client(), "second.test").await.is_err() {} };
    tokio::time::timeout(PATIENCE, renewed).await.expect("the new certificate in time");
    std::fs::write(secure.authority.file("key.pem"), "half a ke").unwrap();
    assert!(secure.connect(client(), "first.test").await.is_err());
    // Who is connected stays so.
    assert!(ask(&mut early, "close").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_says_bye_to_streams_over_tls_and_the_process_ends_within_5_s() {
    let mut secure = secure().await;
    let mut stream = secure.say(&head("GET", "/v1/rooms/lobby/events", "")).await;
    assert!(stream.until("event: snapshot").await);
    let idle = secure.connect(secure.authority.client(b"http/1.1"), "first.test").await.unwrap();
    let told = Instant::now();
    kill_process(Pid::from_child(&secure.process.child), Signal::TERM).unwrap();
    assert!(stream.until(r#"data: {"reason":"drain""#).await, "{}", stream.text);
    assert!(!stream.until("nothing more").await);
    let child = &mut secure.process.child;
    let status = tokio::task::block_in_place(|| child.wait()).unwrap();
    assert!(status.success() && told.elapsed() < Duration::from_secs(5), "{status} {:?}", told.elapsed());
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_over_tls_that_never_reads_is_held_in_a_small_buffer() {
    let secure = secure().await;
    let _silent = secure.connect(secure.authority.client(b"http/1.1"), "first.test").await.unwrap();
    let port: u16 = secure.process.address.rsplit(':').next().unwrap().parse().unwrap();
    let listed = async || {
        let filter = ["-tmnH", "sport", "=", &port.to_string()];
        String::from_utf8(tokio::process::Command::new("ss").args(filter).output().await.unwrap().stdout)
            .unwrap()
    };
    // The kernel doubles what it was told; without that there are megabytes. Set once the handshake is done.
    let small = async { while !listed().await.contains("tb65536") {} };
    assert!(tokio::time::timeout(PATIENCE, small).await.is_ok(), "{}", listed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_shake_hands_keep_nobody_out() {
    let secure = secure().await;
    let address = secure.process.address.strip_prefix("https://").unwrap();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut tls = secure.connect(secure.authority.client(b"http/1.1"), "first.test").await.unwrap();
    assert!(ask(&mut tls, "close").await.starts_with("HTTP/1.1 200 OK"));
    // They have not been cut yet, which takes 3 s: nobody had to wait for that.
    let open = silent.iter().filter(|socket| {
        let nothing_yet = socket.try_read(&mut [0; 1]).map_err(|error| error.kind());
        nothing_yet == Err(std::io::ErrorKind::WouldBlock)
    });
    assert_eq!(open.count(), silent.len());
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_at_the_start() {
    let authority = Authority::new();
    authority.issue(&["first.test"]);
    let run = |cert: &str, key: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_headcount"))
            .args([
                "serve",
                "--database-url",
                "postgres://localhost/none",
                "--tls-cert",
                cert,
                "--tls-key",
                key,
            ])
            .env("HEADCOUNT_JWT_SECRET", crate::support::deployment::JWT_SECRET)
            .env("HEADCOUNT_SERVER_KEY", crate::support::deployment::SERVER_KEY)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    for (cert, key) in [(&cert, &authority.path("none.pem")), (&key, &key), (&authority.path("ca.pem"), &key)]
    {
        let said = run(cert, key);
        assert!(said.contains("HEADCOUNT_TLS_CERT, HEADCOUNT_TLS_KEY: "), "{said}");
    }
}
