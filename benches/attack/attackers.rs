//! The attackers: each of these goes on until it is stopped, and comes back when it is cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::stage::{SERVER_KEY, token};
use crate::wire::{Wire, get, post, request};

/// What they do.
#[derive(Clone, Copy)]
pub enum Attack {
    /// 5,000 connections that say nothing.
    HalfOpen,
    /// 500 that send a byte of a head every second.
    SlowHead,
    /// 500 that send a byte of a body every second.
    SlowBody,
    /// 500 streams of a large, busy room that are never read.
    SlowReader,
    /// 100 times a second a head, an address and a body that are too large.
    Oversize,
    /// 20 times a second 100 requests in one packet.
    Pipelining,
    /// 400 times a second two streams in one packet, on a connection that is closed at once.
    PipelinedStreams,
    /// 200 streams of 32 rooms each, of their own, all closed and opened again every second.
    ClosingStreams,
    /// Requests as fast as they are answered, each with another forged address in front of the one that the proxy saw.
    ForgedAddress,
    /// 8 that ask where a user of 500 rooms is, naming them a thousand times.
    ManyPlaces,
    /// 16 that change the name of a user in 400 rooms, each time to another one.
    Renaming,
    /// 16 that erase a user, with a million events in the log.
    Erasing,
}

/// Those at work.
pub struct Attackers {
    tasks: JoinSet<()>,
    open: Arc<AtomicUsize>,
}

impl Attackers {
    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Ends them, and waits until they are gone.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        sleep(Duration::from_millis(500)).await; // the service notices
    }
}

impl Attack {
    pub const ALL: [Self; 12] = [
        Self::HalfOpen,
        Self::SlowHead,
        Self::SlowBody,
        Self::SlowReader,
        Self::Oversize,
        Self::Pipelining,
        Self::PipelinedStreams,
        Self::ClosingStreams,
        Self::ForgedAddress,
        Self::ManyPlaces,
        Self::Renaming,
        Self::Erasing,
    ];

    /// What the replica is told besides. The ordinary callers share one address, and stay below its limit.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::ForgedAddress => &["--requests-per-address", "400", "--trusted-proxies", "127.0.0.0/8"],
            _ => &[],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half_open_5000",
            Self::SlowHead => "slow_head",
            Self::SlowBody => "slow_body",
            Self::SlowReader => "slow_reader",
            Self::Oversize => "oversize",
            Self::Pipelining => "pipelining",
            Self::PipelinedStreams => "pipelined_streams",
            Self::ClosingStreams => "closing_streams",
            Self::ForgedAddress => "forged_address",
            Self::ManyPlaces => "many_places",
            Self::Renaming => "renaming",
            Self::Erasing => "erasing",
        }
    }

    fn attackers(self) -> usize {
        match self {
            Self::HalfOpen => 5000,
            Self::SlowHead | Self::SlowBody | Self::SlowReader => 500,
            Self::Oversize => 10,
            Self::Pipelining | Self::PipelinedStreams | Self::ForgedAddress => 4,
            Self::ClosingStreams => 200,
            Self::ManyPlaces => 8,
            Self::Renaming | Self::Erasing => 16,
        }
    }

    /// All of them, once each has made its first connection.
    pub async fn start(self, address: SocketAddr) -> Attackers {
        let open = Arc::<AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        if matches!(self, Self::SlowReader) {
            crowd(address).await;
            tasks.spawn(stir(address));
        }
        match self {
            Self::ManyPlaces => everywhere(address, "popular", 500).await,
            Self::Renaming => everywhere(address, "mallory", 400).await,
            _ => {}
        }
        for n in 0..self.attackers() {
            let open = open.clone();
            tasks.spawn(async move {
                // Not all at the same moment for ever.
                sleep(Duration::from_millis(n as u64 % 1000)).await;
                loop {
                    let Ok(socket) = TcpStream::connect(address).await else { continue };
                    open.fetch_add(1, Ordering::Relaxed);
                    let _ = self.once(socket).await; // cut: comes back
                    open.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
        let all = async {
            while open.load(Ordering::Relaxed) < self.attackers() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = timeout(Duration::from_secs(3), all).await; // those that come and go are never all there
        Attackers { tasks, open }
    }

    /// One connection, until it is cut.
    async fn once(self, mut socket: TcpStream) -> std::io::Result<()> {
        let credential = token("mallory");
        match self {
            Self::HalfOpen => socket.read_to_end(&mut Vec::new()).await.map(drop),
            Self::SlowHead => drip(&mut socket, b"GET /livez HTTP/1.1\r\nhost: a\r\nx-slow: ").await,
            Self::SlowBody => {
                let whole = post("/v1/heartbeats", &credential, &" ".repeat(1000));
                drip(&mut socket, &whole[..whole.len() - 1000]).await
            }
            Self::SlowReader => {
                SockRef::from(&socket).set_recv_buffer_size(4096)?;
                socket.write_all(&get("/v1/rooms/crowd/events?mode=list", &credential)).await?;
                sleep(Duration::from_secs(3600)).await;
                Ok(())
            }
            Self::Oversize => {
                let body = post("/v1/heartbeats", &credential, &" ".repeat(200_000));
                let head = get("/livez", &"x".repeat(200_000));
                let address = get(&"/x".repeat(100_000), &credential);
                for request in [body, head, address] {
                    let mut socket = TcpStream::connect(socket.peer_addr()?).await?;
                    let _ = socket.write_all(&request).await; // cut before it is all there
                    let _ = timeout(Duration::from_secs(1), socket.read_to_end(&mut Vec::new())).await;
                }
                sleep(Duration::from_millis(100)).await;
                Ok(())
            }
            Self::Pipelining => {
                let request =
                    post("/v1/heartbeats", &credential, &json!({"session": Uuid::new_v4()}).to_string());
                let packet = request.repeat(100);
                let mut answers = vec![0; 256 * 1024];
                loop {
                    socket.write_all(&packet).await?;
                    let mut answered = 0;
                    while answered < 100 {
                        let read = socket.read(&mut answers).await?;
                        if read == 0 {
                            return Ok(());
                        }
                        answered += answers[..read].windows(9).filter(|w| w == b"HTTP/1.1 ").count();
                    }
                    sleep(Duration::from_millis(200)).await;
                }
            }
            Self::PipelinedStreams => {
                let packet = get("/v1/rooms/quiet/events", &credential).repeat(2);
                socket.write_all(&packet).await?;
                let _first = socket.read(&mut [0; 4096]).await?;
                sleep(Duration::from_millis(10)).await;
                Ok(())
            }
            Self::ClosingStreams => {
                let own = Uuid::new_v4().simple().to_string();
                let rooms: Vec<String> = (0..32).map(|n| format!("{own}-{n}")).collect();
                let path = format!("/v1/events?rooms={}", rooms.join(","));
                socket.write_all(&get(&path, &credential)).await?;
                let _first = socket.read(&mut [0; 4096]).await?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                sleep(Duration::from_millis(1000 - u64::from(now.subsec_millis()))).await;
                Ok(())
            }
            Self::ForgedAddress => {
                let mut answer = [0; 4096];
                loop {
                    let forged: [u8; 3] = rand::random();
                    let [a, b, c] = forged;
                    let lines = format!("a\r\nx-forwarded-for: 9.{a}.{b}.{c}, x, 203.0.113.7");
                    let request = format!("GET /livez HTTP/1.1\r\nhost: {lines}\r\n\r\n");
                    socket.write_all(request.as_bytes()).await?;
                    if socket.read(&mut answer).await? == 0 {
                        return Ok(());
                    }
                }
            }
            Self::ManyPlaces => {
                let body = json!({"ids": vec!["popular"; 1000]}).to_string();
                again_and_again(socket, || post("/v1/users/presence", &credential, &body)).await
            }
            Self::Renaming => {
                let name = || json!({"name": Uuid::new_v4()}).to_string();
                again_and_again(socket, || request("PUT", "/v1/users/mallory", &credential, &name())).await
            }
            Self::Erasing => {
                again_and_again(socket, || request("DELETE", "/v1/users/mallory", &credential, "")).await
            }
        }
    }
}

/// One request after the other, whatever they are answered.
async fn again_and_again(socket: TcpStream, request: impl Fn() -> Vec<u8>) -> std::io::Result<()> {
    let mut wire = Wire::over(socket);
    loop {
        wire.ask(&request()).await;
    }
}

/// A user in so many rooms. Their application's server joins them, which is not limited.
async fn everywhere(address: SocketAddr, user: &str, rooms: usize) {
    let mut wire = Wire::open(address).await;
    let join = json!({"session": Uuid::new_v4(), "user": user}).to_string();
    for n in 0..rooms {
        wire.ask(&post(&format!("/v1/rooms/everywhere-{n}/join"), SERVER_KEY, &join)).await;
    }
}

/// A byte every second, until it is cut.
async fn drip(socket: &mut TcpStream, start: &[u8]) -> std::io::Result<()> {
    socket.write_all(start).await?;
    let mut byte = [0];
    loop {
        match timeout(Duration::from_secs(1), socket.read(&mut byte)).await {
            Err(_) => socket.write_all(b" ").await?,
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => drop(read?),
        }
    }
}

/// A room of 100 members.
async fn crowd(address: SocketAddr) {
    let mut wire = Wire::open(address).await;
    for n in 0..100 {
        let join = json!({"session": Uuid::from_u128((4 << 76) | (1 << 63) | n), "state": "x".repeat(200)})
            .to_string();
        wire.ask(&post("/v1/rooms/crowd/join", &token(&format!("crowd-{n}")), &join)).await;
    }
}

/// Changes it five times a second, so that each stream is due some 300 kB a second.
async fn stir(address: SocketAddr) {
    let mut wire = Wire::open(address).await;
    for n in 0_u64.. {
        let change = json!({"session": Uuid::from_u128((4 << 76) | (1 << 63) | 1), "state": n}).to_string();
        wire.ask(&post("/v1/rooms/crowd/join", &token("crowd-1"), &change)).await;
        sleep(Duration::from_millis(200)).await;
    }
}
