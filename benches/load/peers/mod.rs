//! Servers that fan out, behind one face: so many watchers are opened, something is published, and everybody hears.
//!
//! Each is a process of its own on the server core, with what it needs (Redis, nothing else) on the other.

pub mod actioncable;
pub mod headcount;
pub mod nchan;
pub mod raw;
pub mod socketio;

use std::net::SocketAddr;

use crate::process::Process;
use crate::request::Line;
use crate::stage::Stage;
use crate::watchers::{Script, mark};

/// Bytes of a published frame, where a server lets us choose.
pub const FRAME: usize = 200;

/// All there are, the one that is ours first.
pub const NAMES: [&str; 5] = ["headcount", "raw", "nchan", "socketio", "actioncable"];

/// A server that fans out.
pub struct Peer {
    pub server: Process,
    pub address: SocketAddr,
    pub script: Script,
    pub publisher: Box<dyn Publish>,
    /// What the server needs, for as long.
    pub _others: Vec<Process>,
}

/// Makes a server tell all watchers something.
pub trait Publish {
    /// Publishes so many marks from `first` on, each once to everybody, and does not wait until they are heard.
    fn publish(&mut self, first: u64, count: u64);

    /// Reads what the server answered. After everybody has heard.
    fn settle(&mut self);
}

/// Starts one. An error says what is missing on this machine.
pub async fn start(name: &str, stage: &Stage) -> Result<Peer, String> {
    match name {
        "headcount" => Ok(headcount::start(stage).await),
        "raw" => Ok(raw::start()),
        "nchan" => nchan::start(stage),
        "socketio" => socketio::start(stage).await,
        "actioncable" => actioncable::start(stage).await,
        _ => Err(format!("no peer is called {name}")),
    }
}

/// Something to publish: JSON of this length with a mark.
pub fn payload(number: u64, length: usize) -> String {
    let head = format!("{{\"id\":\"{}\",\"text\":\"", mark(number));
    let padding = length.saturating_sub(head.len() + 2);
    format!("{head}{:x<padding$}\"}}", "")
}

/// Publishes by HTTP: requests over some connections, answered in the order of asking.
pub struct HttpPublisher {
    address: SocketAddr,
    connections: usize,
    /// Opened with the first publish: a server closes connections that ask nothing for some seconds.
    lines: Vec<Line>,
    /// The requests that publish so many marks from the first on.
    requests: Box<dyn FnMut(u64, u64) -> Vec<Vec<u8>>>,
    asked: usize,
}

impl HttpPublisher {
    pub fn new(
        address: SocketAddr,
        connections: usize,
        requests: impl FnMut(u64, u64) -> Vec<Vec<u8>> + 'static,
    ) -> Box<Self> {
        Box::new(Self { address, connections, lines: Vec::new(), requests: Box::new(requests), asked: 0 })
    }
}

impl Publish for HttpPublisher {
    fn publish(&mut self, first: u64, count: u64) {
        let requests = (self.requests)(first, count);
        self.asked = requests.len();
        while self.lines.len() < self.connections.min(self.asked) {
            self.lines.push(Line::open(self.address));
        }
        for (index, request) in requests.iter().enumerate() {
            self.lines[index % self.connections].send(request);
        }
    }

    fn settle(&mut self) {
        for index in 0..self.asked {
            let (status, body) = self.lines[index % self.connections].receive();
            assert!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(&body));
        }
    }
}

/// Waits until something listens there: most servers do not say when they do.
pub fn until_listening(address: SocketAddr, log: &std::path::Path) -> Result<(), String> {
    let begin = std::time::Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        if begin.elapsed() > std::time::Duration::from_secs(30) {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            return Err(format!("it does not start: {}", said.lines().last().unwrap_or("it says nothing")));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// The request that makes an open connection a WebSocket.
pub fn upgrade(path: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: aGVhZGNvdW50IGJlbmNoZQ==\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A text message from a client. The mask is zero, which is a mask.
pub fn text_message(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("messages of clients are short");
    let mut bytes = vec![0x81];
    match u8::try_from(length).ok().filter(|length| *length < 126) {
        Some(short) => bytes.push(0x80 | short),
        None => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
