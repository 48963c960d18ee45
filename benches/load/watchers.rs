//! Thousands of open streams on one thread, whatever they speak: server-sent events, WebSocket, or bare bytes.
//!
//! Nothing is parsed. Everything that is published in these benches carries a mark, `"id":"mk~` and eight digits, and
//! a watcher counts the marks that it sees. That costs a search per read, the same for every server.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

/// What a mark begins with; eight digits follow.
const MARK: &[u8] = b"\"id\":\"mk~";

/// Bytes kept of what came before: one less than a mark has.
const CARRY: usize = MARK.len() + 8 - 1;

/// Bytes kept of the end of what came last: more than a cursor and what stands after it.
const TAIL: usize = 64;

/// Connections under way at once, while opening: fewer than any server's backlog.
const OPENING_MAX: usize = 250;

/// Sockets from one loopback address: well below the ports that the kernel gives out.
const PER_ADDRESS: usize = 8000;

/// The id of a user, and what a mark looks like in a payload.
pub fn mark(number: u64) -> String {
    format!("mk~{number:08}")
}

/// What a stream says to be opened, and how it is known to be open.
#[derive(Clone)]
pub struct Script {
    /// Sent at once.
    pub hello: Vec<u8>,
    /// Sent when this has been seen, where a protocol needs it.
    pub then: Option<(&'static [u8], Vec<u8>)>,
    /// Seen when the stream is open.
    pub ready: &'static [u8],
}

/// A stream, and what has come on it.
pub struct Watcher {
    stream: TcpStream,
    connected: bool,
    /// What was read while opening; searched for what the script waits for.
    opening: Option<Vec<u8>>,
    answered: bool,
    carry: [u8; CARRY],
    carried: usize,
    /// Marks seen.
    pub marks: u64,
    /// The largest mark's number.
    pub latest: u64,
    /// The end of what came last.
    tail: [u8; TAIL],
    /// Bytes since it was open.
    pub bytes: u64,
    /// Frames of changes, where that is counted.
    pub frames: u64,
    /// When it was begun to open, and when it was open.
    pub started: Instant,
    pub opened: Option<Instant>,
}

/// A set of streams.
pub struct Watchers {
    poll: Poll,
    all: Vec<Watcher>,
    script: Script,
    finder: Finder<'static>,
    frame: Option<Finder<'static>>,
    buffer: Vec<u8>,
    open: usize,
    /// Marks seen by all of them.
    pub marks: u64,
    /// When something last came that had a mark.
    pub heard_first: Option<Instant>,
    pub heard_last: Option<Instant>,
}

/// Told of every mark: the watcher's index, the mark's number, now.
pub type OnMark<'a> = &'a mut dyn FnMut(usize, u64, Instant);

impl Watchers {
    /// Opens so many and waits until all are open.
    pub fn open(address: SocketAddr, count: usize, script: &Script) -> Self {
        Self::open_at_once(address, count, script, OPENING_MAX)
    }

    /// The same with so many connections under way at once.
    pub fn open_at_once(address: SocketAddr, count: usize, script: &Script, at_once: usize) -> Self {
        let mut watchers = Self {
            poll: Poll::new().expect("epoll is there"),
            all: Vec::with_capacity(count),
            script: script.clone(),
            finder: Finder::new(MARK),
            frame: None,
            buffer: vec![0; CARRY + 256 * 1024],
            open: 0,
            marks: 0,
            heard_first: None,
            heard_last: None,
        };
        let patience = Instant::now() + Duration::from_secs(120);
        while watchers.open < count {
            let opening = watchers.all.len() - watchers.open;
            for _ in 0..at_once.saturating_sub(opening).min(count - watchers.all.len()) {
                watchers.connect(address);
            }
            watchers.pump(Duration::from_millis(50), &mut |_, _, _| {});
            assert!(Instant::now() < patience, "{} of {count} streams open", watchers.open);
        }
        watchers
    }

    /// Also counts what begins so. Frames cut by the end of a read are counted once.
    pub fn count_frames(&mut self, needle: &'static [u8]) {
        assert!(needle.len() <= CARRY, "what is kept of a read holds a cut needle");
        self.frame = Some(Finder::new(needle));
    }

    pub fn all(&self) -> &[Watcher] {
        &self.all
    }

    fn connect(&mut self, address: SocketAddr) {
        let index = self.all.len();
        let host = u8::try_from(2 + index / PER_ADDRESS).expect("fewer than two million");
        let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0);
        let socket =
            Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a descriptor is free");
        // Gone at once when closed, so that ten thousand ports do not wait for a minute.
        socket.set_linger(Some(Duration::ZERO)).expect("a TCP socket takes this option");
        socket.set_nonblocking(true).expect("a TCP socket takes this option");
        socket.bind(&source.into()).expect("every 127.x address is ours");
        let _ = socket.connect(&address.into()); // under way
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest).expect("epoll takes a socket");
        self.all.push(Watcher {
            stream,
            connected: false,
            opening: Some(Vec::new()),
            answered: false,
            carry: [0; CARRY],
            carried: 0,
            marks: 0,
            latest: 0,
            tail: [0; TAIL],
            bytes: 0,
            frames: 0,
            started: Instant::now(),
            opened: None,
        });
    }

    /// Reads what has come, or waits so long for it.
    pub fn pump(&mut self, wait: Duration, on_mark: OnMark<'_>) {
        let mut events = Events::with_capacity(2048);
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("epoll works: {error}"),
            _ => {}
        }
        for event in &events {
            let index = event.token().0;
            if event.is_writable() && !self.all[index].connected {
                self.all[index].connected = true;
                self.all[index].say(&self.script.hello);
            }
            if event.is_readable() {
                self.read(index, on_mark);
            }
        }
    }

    /// Reads until so many more marks have come, over all watchers. False when that took too long.
    pub fn until_marks(&mut self, more: u64, patience: Duration) -> bool {
        let (target, end) = (self.marks + more, Instant::now() + patience);
        while self.marks < target && Instant::now() < end {
            self.pump(Duration::from_millis(100), &mut |_, _, _| {});
        }
        self.marks >= target
    }

    /// Reads until every watcher satisfies this. False when that took too long. Looks at all of them each time.
    pub fn until(&mut self, patience: Duration, done: impl Fn(&Watcher) -> bool) -> bool {
        let end = Instant::now() + patience;
        let mut missing: Vec<usize> = (0..self.all.len()).collect();
        loop {
            missing.retain(|index| !done(&self.all[*index]));
            if missing.is_empty() {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            self.pump(Duration::from_millis(100), &mut |_, _, _| {});
        }
    }

    /// Reads for so long.
    pub fn pump_for(&mut self, length: Duration, on_mark: OnMark<'_>) {
        let end = Instant::now() + length;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.pump(left.min(Duration::from_millis(50)), on_mark);
        }
    }

    /// Forgets when something was heard, before something is published.
    pub fn listen_anew(&mut self) {
        (self.heard_first, self.heard_last) = (None, None);
    }

    fn read(&mut self, index: usize, on_mark: OnMark<'_>) {
        let watcher = &mut self.all[index];
        loop {
            let room = self.buffer.len() - CARRY;
            let read = match watcher.stream.read(&mut self.buffer[CARRY..]) {
                Ok(0) => panic!("the server closed a watcher's stream"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a watcher's stream broke: {error}"),
            };
            if watcher.opening.is_some() {
                self.open += usize::from(watcher.follow(&self.script, &self.buffer[CARRY..CARRY + read]));
            } else {
                let begin = CARRY - watcher.carried;
                self.buffer[begin..CARRY].copy_from_slice(&watcher.carry[..watcher.carried]);
                let data = &self.buffer[begin..CARRY + read];
                if let Some(frame) = &self.frame {
                    watcher.frames += count(frame, data, watcher.carried);
                }
                let marks = watcher.take(&self.finder, data, index, on_mark);
                if marks > 0 {
                    self.marks += marks;
                    let now = Instant::now();
                    self.heard_first.get_or_insert(now);
                    self.heard_last = Some(now);
                }
                watcher.bytes += read as u64;
                watcher.keep_tail(&self.buffer[CARRY..CARRY + read]);
            }
            if read < room {
                return;
            }
        }
    }
}

/// Those that end in what is new.
fn count(needle: &Finder<'_>, data: &[u8], carried: usize) -> u64 {
    let length = needle.needle().len();
    needle.find_iter(data).filter(|at| at + length > carried).count() as u64
}

impl Watcher {
    fn say(&mut self, bytes: &[u8]) {
        let written = self.stream.write(bytes).expect("the server reads");
        assert_eq!(written, bytes.len(), "a request fits into a socket's buffer");
    }

    /// True when that opened it.
    fn follow(&mut self, script: &Script, bytes: &[u8]) -> bool {
        let mut seen = self.opening.take().unwrap_or_default();
        seen.extend_from_slice(bytes);
        if let (Some((wait, say)), false) = (&script.then, self.answered)
            && memchr::memmem::find(&seen, wait).is_some()
        {
            self.answered = true;
            self.say(say);
        }
        let open = memchr::memmem::find(&seen, script.ready).is_some();
        if open {
            self.opened = Some(Instant::now());
        } else {
            self.opening = Some(seen);
        }
        open
    }

    fn keep_tail(&mut self, new: &[u8]) {
        let new = &new[new.len().saturating_sub(TAIL)..];
        self.tail.rotate_left(new.len());
        self.tail[TAIL - new.len()..].copy_from_slice(new);
    }

    /// The version in the last cursor that came; 0 when a frame is under way.
    pub fn version(&self) -> u64 {
        let text = std::str::from_utf8(&self.tail).unwrap_or_default();
        let digits = |after: &str| after.chars().take_while(char::is_ascii_digit).collect::<String>();
        let whole = text.ends_with("\n\n");
        text.rsplit_once('.').filter(|_| whole).and_then(|(_, after)| digits(after).parse().ok()).unwrap_or(0)
    }

    /// Gives how many marks there are in what is new.
    fn take(&mut self, finder: &Finder<'_>, data: &[u8], index: usize, on_mark: OnMark<'_>) -> u64 {
        let (mut at, before) = (0, self.marks);
        while let Some(found) = finder.find(&data[at..]) {
            let digits = at + found + MARK.len();
            let Some(digits) = data.get(digits..digits + 8) else { break };
            let number = digits.iter().fold(0, |n, digit| n * 10 + u64::from(digit.wrapping_sub(b'0')));
            at += found + CARRY + 1;
            self.marks += 1;
            self.latest = self.latest.max(number);
            on_mark(index, number, Instant::now());
        }
        let rest = &data[at.max(data.len().saturating_sub(CARRY))..];
        self.carried = rest.len();
        self.carry[..rest.len()].copy_from_slice(rest);
        self.marks - before
    }
}
