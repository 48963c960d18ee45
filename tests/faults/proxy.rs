//! A TCP link that can be broken: delayed, cut by FIN or RST, held half-open, refused, slowed.
//!
//! Bounded: what a connection has read and not written is one buffer per direction; a held connection is not read, so
//! that whoever sends feels it, as through a real network.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::wait::elapse;

/// The other end.
#[derive(Clone, Debug)]
pub enum Upstream {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// What the link does with bytes and with new connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Pass,
    /// Answers come so much later.
    Delay(Duration),
    /// Everything is held, and new connections are taken and held too: a partition.
    Hold,
    /// So many bytes a second, of answers.
    Trickle(usize),
    /// Nobody listens.
    Refuse,
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Fin,
    Rst,
}

#[derive(Clone, Copy, PartialEq)]
struct State {
    mode: Mode,
    /// Connections made before are held for ever: half-open.
    dead_before: u64,
}

struct Shared {
    upstream: Mutex<Upstream>,
    links: Mutex<HashMap<u64, Link>>,
    made: AtomicU64,
    state: watch::Sender<State>,
}

struct Link {
    ends: Vec<Socket>,
    task: AbortHandle,
}

/// Ends, with all its connections, when dropped.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State { mode: Mode::Pass, dead_before: 0 });
        let upstream = Mutex::new(upstream);
        let shared = Arc::new(Shared { upstream, links: Mutex::default(), made: AtomicU64::new(0), state });
        let accepting = tokio::spawn(accept(listener, address, shared.clone()));
        Self { port: address.port(), shared, accepting }
    }

    pub fn set(&self, mode: Mode) {
        self.shared.state.send_modify(|state| state.mode = mode);
    }

    /// New connections go elsewhere.
    pub fn retarget(&self, upstream: Upstream) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }

    /// Every connection made so far is silent from now on, and nobody is told. New ones pass.
    pub fn half_open(&self) {
        let made = self.shared.made.load(Ordering::Relaxed);
        self.shared.state.send_modify(|state| state.dead_before = made);
    }

    /// Ends every connection.
    pub fn cut(&self, how: How) {
        for (_, link) in self.shared.links.lock().unwrap().drain() {
            for end in &link.ends {
                // `shutdown` first: a close alone, while a task still reads, would send no FIN.
                let _ = match how {
                    How::Fin => end.shutdown(std::net::Shutdown::Both),
                    How::Rst => end.set_linger(Some(Duration::ZERO)),
                };
            }
            link.task.abort();
        }
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.shared.links.lock().unwrap().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut(How::Fin);
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut listener = Some(listener);
    let mut state = shared.state.subscribe();
    loop {
        let refuse = state.borrow_and_update().mode == Mode::Refuse;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.expect("the port is still ours"));
        }
        let Some(open) = &listener else {
            let _ = state.changed().await;
            continue;
        };
        tokio::select! {
            accepted = open.accept() => if let Ok((stream, _)) = accepted { take(stream, &shared) },
            _ = state.changed() => {}
        }
    }
}

fn take(stream: TcpStream, shared: &Arc<Shared>) {
    let number = shared.made.fetch_add(1, Ordering::Relaxed);
    let near = SockRef::from(&stream).try_clone().unwrap();
    let _ = stream.set_nodelay(true);
    let mut links = shared.links.lock().unwrap(); // held until the task is known, which may end at once
    let task = tokio::spawn(serve(stream, number, shared.clone())).abort_handle();
    links.insert(number, Link { ends: vec![near], task });
}

async fn serve(near: TcpStream, number: u64, shared: Arc<Shared>) {
    let upstream = shared.upstream.lock().unwrap().clone();
    let mut state = shared.state.subscribe();
    until_free(&mut state, number).await;
    let far = match &upstream {
        Upstream::Unix(path) => UnixStream::connect(path).await.map(|far| (clone_of(&far), boxed(far))),
        Upstream::Tcp(address) => connect(*address).await.map(|far| (clone_of(&far), boxed(far))),
    };
    if let Ok((end, far)) = far {
        if let Some(link) = shared.links.lock().unwrap().get_mut(&number) {
            link.ends.push(end);
        }
        let (near_read, near_write) = split(near);
        let (far_read, far_write) = split(far);
        let asks = pump(near_read, far_write, shared.state.subscribe(), number, false);
        let answers = pump(far_read, near_write, shared.state.subscribe(), number, true);
        tokio::join!(asks, answers);
    }
    shared.links.lock().unwrap().remove(&number);
}

/// With a small receive buffer, so that a held link is felt after kilobytes and not after megabytes.
async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

fn boxed(stream: impl Bytes + 'static) -> Box<dyn Bytes> {
    Box::new(stream)
}

fn clone_of(stream: &impl std::os::fd::AsFd) -> Socket {
    SockRef::from(stream).try_clone().unwrap()
}

async fn until_free(state: &mut watch::Receiver<State>, number: u64) {
    let free = |state: &State| state.mode != Mode::Hold && number >= state.dead_before;
    let _ = state.wait_for(free).await;
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    number: u64,
    answers: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        until_free(&mut state, number).await;
        let mode = state.borrow().mode;
        let most =
            if let (Mode::Trickle(rate), true) = (mode, answers) { rate.div_ceil(10) } else { buffer.len() };
        let Ok(read) = from.read(&mut buffer[..most]).await else { break };
        if read == 0 {
            break;
        }
        let mode = state.borrow().mode; // it may be another by now
        match mode {
            Mode::Delay(delay) if answers => elapse(delay).await,
            Mode::Trickle(_) if answers => elapse(Duration::from_millis(100)).await,
            _ => {}
        }
        until_free(&mut state, number).await; // it may have been held since
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
