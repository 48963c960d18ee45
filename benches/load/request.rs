//! HTTP requests as bytes, and just enough of reading answers: the generator shares the cores with what it measures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;

/// A request with a JSON body.
pub fn post(path: &str, credential: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {credential}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A request without a body. `more` are header lines, each with its end.
pub fn get(path: &str, credential: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {credential}\r\n{more}\r\n")
        .into_bytes()
}

/// An answer that has come whole: its status, and where its body begins and ends.
pub struct Answer {
    pub status: u16,
    pub body: std::ops::Range<usize>,
}

/// Finds the first answer; none while some of it is missing. Only answers that say their length are understood.
pub fn answer(bytes: &[u8]) -> Option<Answer> {
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let status = std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
    let length = content_length(&bytes[..head]).unwrap_or(0);
    (bytes.len() >= head + length).then_some(Answer { status, body: head..head + length })
}

fn content_length(head: &[u8]) -> Option<usize> {
    let at = memmem::find(head, b"ontent-length: ").or_else(|| memmem::find(head, b"ontent-Length: "))? + 15;
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// A kept-open connection that asks one thing at a time and waits: for what is not under load.
pub struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket takes this option");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a minute is not zero");
        Self { stream, buffer: Vec::new() }
    }

    /// Sends without waiting for the answer.
    pub fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).expect("the server reads");
    }

    /// The answer to the oldest request that has none yet: status and body.
    pub fn receive(&mut self) -> (u16, Vec<u8>) {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(Answer { status, body }) = answer(&self.buffer) {
                let text = self.buffer[body.clone()].to_vec();
                self.buffer.drain(..body.end);
                return (status, text);
            }
            let read = self.stream.read(&mut chunk).expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    /// Asks, and gives the body of an answer that must be a success.
    pub fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.send(request);
        let (status, body) = self.receive();
        assert!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(&body));
        body
    }
}
