//! The smallest HTTP/1.1 client: one kept-open connection, one request at a time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A kept-open connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket takes this option");
        Self { stream, buffer: vec![0; 64 * 1024] }
    }

    /// On a connection that is open, for answers of any size.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; 16 * 1024 * 1024] }
    }

    /// Sends a prepared request and reads its whole answer. Gives the status.
    pub async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.expect("the server reads");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            filled += read;
            if let Some(length) = whole(&self.buffer[..filled]) {
                assert_eq!(length, filled, "one answer at a time");
                return status(&self.buffer);
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?.to_ascii_lowercase();
    let length: usize = text.split("content-length: ").nth(1)?.split('\r').next()?.parse().ok()?;
    (bytes.len() >= head + length).then_some(head + length)
}

fn status(bytes: &[u8]) -> u16 {
    std::str::from_utf8(&bytes[9..12]).ok().and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// A prepared request with a JSON body.
pub fn post(path: &str, credential: &str, body: &str) -> Vec<u8> {
    request("POST", path, credential, body)
}

/// A prepared request of any method.
pub fn request(method: &str, path: &str, credential: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {credential}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A prepared request without a body.
pub fn get(path: &str, credential: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {credential}\r\n\r\n").into_bytes()
}
