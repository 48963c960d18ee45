//! Somebody whom a webhook tells: a little HTTP server that keeps what it got, and can be told to behave badly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::support::deployment::PATIENCE;

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Status(u16),
    /// Not, until it is told to behave otherwise.
    Never,
    /// 200, and then bytes without end.
    Endless,
}

/// A message, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: String,
    pub content: Value,
}

impl Received {
    pub fn events(&self) -> &[Value] {
        self.content["data"]["events"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Computed from the definition of HMAC, by other code than what signed.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let mut key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        key.resize(64, 0);
        let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.body);
        let inner = Sha256::digest([pad(0x36), signed.into_bytes()].concat());
        let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
        let wanted = format!("v1,{}", BASE64_STANDARD.encode(outer));
        self.signature.split(' ').any(|signature| signature == wanted)
    }
}

/// A receiver. Ended when dropped.
pub struct Receiver {
    pub address: SocketAddr,
    manner: watch::Sender<Manner>,
    got: Arc<Mutex<Vec<Received>>>,
    serving: Option<JoinHandle<()>>,
    tls: Option<TlsAcceptor>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that speaks TLS.
    pub async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::start_with(Some(acceptor)).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manner = watch::Sender::new(Manner::Status(204));
        let mut receiver = Self { address, manner, got: Arc::default(), serving: None, tls };
        receiver.serve(listener);
        receiver
    }

    fn serve(&mut self, listener: TcpListener) {
        let (manner, got, tls) = (self.manner.clone(), self.got.clone(), self.tls.clone());
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (manner, got, tls) = (manner.subscribe(), got.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        Some(tls) => converse(tls.accept(stream).await?, manner, got).await,
                        None => converse(stream, manner, got).await,
                    }
                });
            }
        }));
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn set(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// Gone, with its connections.
    pub async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// At the same address again.
    pub fn revive(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.serve(socket.listen(64).unwrap());
    }

    /// Everything that came, in its order.
    pub fn received(&self) -> Vec<Received> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until what came satisfies this, and gives it.
    pub async fn until(&self, what: &str, so: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let looking = async {
            loop {
                let got = self.received();
                if so(&got) {
                    return got;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .unwrap_or_else(|_| panic!("never: {what}; but {:#?}", self.received()))
    }

    /// Waits until so many events came.
    pub async fn until_told(&self, events: usize) -> Vec<Value> {
        self.until(&format!("{events} events"), |got| told(got).len() >= events).await;
        told(&self.received())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// What a receiver makes of messages: each event when it came first; what came again is checked to be the same, and dropped.
pub fn told(got: &[Received]) -> Vec<Value> {
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let mut told = Vec::new();
    for event in got.iter().flat_map(Received::events) {
        match known.get(event["id"].as_str().unwrap()) {
            Some(before) => assert_eq!(before, event, "an id stands for one thing"),
            None => {
                known.insert(event["id"].as_str().unwrap().to_owned(), event.clone());
                told.push(event.clone());
            }
        }
    }
    told
}

/// How many events came more than once.
pub fn repeats(got: &[Received]) -> usize {
    let ids: Vec<&Value> = got.iter().flat_map(Received::events).map(|event| &event["id"]).collect();
    ids.len() - ids.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>().len()
}

/// The member events of each room as lines `version type user`, in the order in which they came.
pub fn lines(told: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut rooms: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in told.iter().filter(|event| event["user"].is_string()) {
        let text = |field: &str| event[field].as_str().unwrap();
        let version = text("cursor").split_once('.').unwrap().1;
        let kind = text("type").strip_prefix("member.").unwrap();
        rooms.entry(text("room").to_owned()).or_default().push(format!("{version} {kind} {}", text("user")));
    }
    rooms
}

/// `type room [user] [count]`, for reading.
pub fn brief(told: &[Value]) -> Vec<String> {
    let word = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => format!(" {text}"),
        other => format!(" {other}"),
    };
    let line = |event: &Value| {
        let fields = ["room", "user", "reason", "count"].map(|field| word(&event[field]));
        format!("{}{}", event["type"].as_str().unwrap(), fields.concat())
    };
    told.iter().map(line).collect()
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut manner: watch::Receiver<Manner>,
    got: Arc<Mutex<Vec<Received>>>,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("POST /hook"), "{head}");
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
            line.map(|line| line[name.len() + 2..].to_owned()).unwrap_or_default()
        };
        assert_eq!(header("content-type"), "application/json");
        let mut body = vec![0; header("content-length").parse().unwrap()];
        stream.read_exact(&mut body).await?;
        let body = String::from_utf8(body).unwrap();
        let content = serde_json::from_str(&body).unwrap();
        let (id, timestamp, signature) =
            (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        got.lock().unwrap().push(Received { id, timestamp, signature, body, content });
        let now = *manner.wait_for(|manner| *manner != Manner::Never).await.unwrap();
        let status = if let Manner::Status(status) = now { status } else { 200 };
        let length = if now == Manner::Endless { 1_000_000_000 } else { 0 };
        let location = "http://127.0.0.1:1/";
        let answer =
            format!("HTTP/1.1 {status} Whatever\r\nlocation: {location}\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        if now == Manner::Endless {
            loop {
                stream.write_all(&[b' '; 4096]).await?;
            }
        }
    }
}
