//! Many callers on one thread: each has a connection of its own and asks one thing at a time.
//!
//! Either as fast as they are answered, or at a given rate. At a rate, an answer's time counts from when the request
//! was due, so that a server that stalls is not spared the requests that could not be sent meanwhile.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::request::answer;

/// Longer than this after the end, nobody waits for what is still missing.
const PATIENCE: Duration = Duration::from_secs(20);

/// What callers ask for.
pub trait Calls {
    /// Writes the next request of a connection, and gives a number to know it by; none when there is no more.
    fn next(&mut self, connection: usize, request: &mut Vec<u8>) -> Option<u64>;

    /// The answer to a request: connection, the request's number, status, body.
    fn answered(&mut self, _connection: usize, _number: u64, _status: u16, _body: &[u8]) {}
}

/// How hard callers push.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each asks again as soon as it is answered.
    Closed,
    /// So many requests a second in all.
    PerSecond(f64),
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    /// Answers with a 2xx.
    pub done: u64,
    /// Answers with something else.
    pub refused: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Milliseconds of each answer, in the order of coming.
    pub millis: Vec<f64>,
    /// How late requests were sent, in milliseconds, at worst: the generator's own lag, when paced.
    pub lag_ms: f64,
}

impl Tally {
    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64()
    }
}

struct Caller {
    stream: TcpStream,
    request: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    asked: Option<(u64, Instant)>,
}

/// Connections that are kept from run to run.
pub struct Callers {
    poll: Poll,
    callers: Vec<Caller>,
}

impl Callers {
    pub fn open(address: SocketAddr, connections: usize) -> Self {
        Self::open_on(&[address], connections)
    }

    /// Spread over several servers.
    pub fn open_on(addresses: &[SocketAddr], connections: usize) -> Self {
        let poll = Poll::new().expect("epoll is there");
        let open = |index: usize| {
            let address = addresses[index % addresses.len()];
            let stream = std::net::TcpStream::connect(address).expect("the server accepts");
            stream.set_nodelay(true).expect("a TCP socket takes this option");
            stream.set_nonblocking(true).expect("a TCP socket takes this option");
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)
                .expect("epoll takes a socket");
            Caller { stream, request: Vec::new(), written: 0, answer: Vec::new(), asked: None }
        };
        let callers = (0..connections).map(open).collect();
        Self { poll, callers }
    }

    /// Has them ask for so long, or until there is no more to ask, and waits for the last answers.
    pub fn run(&mut self, pace: Pace, length: Duration, calls: &mut impl Calls) -> Tally {
        let begin = Instant::now();
        let end = begin + length;
        let mut tally = Tally::default();
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        let mut idle: VecDeque<usize> = (0..self.callers.len()).collect(); // in turn: a server ends what is never used
        let (mut due, mut more) = (begin, true);
        loop {
            let now = Instant::now();
            more &= now < end;
            while more && (matches!(pace, Pace::Closed) || due <= now) {
                let Some(index) = idle.pop_front() else { break };
                let since = if let Pace::PerSecond(rate) = pace {
                    let this = due;
                    due += Duration::from_secs_f64(1.0 / rate);
                    tally.lag_ms = tally.lag_ms.max((now - this).as_secs_f64() * 1000.0);
                    this
                } else {
                    Instant::now()
                };
                if !self.callers[index].ask(index, since, calls) {
                    more = false;
                    idle.push_back(index);
                }
            }
            if !more && idle.len() == self.callers.len() {
                tally.took = begin.elapsed();
                return tally;
            }
            assert!(now < end + PATIENCE, "{} callers wait for an answer", self.callers.len() - idle.len());
            let wait = match pace {
                Pace::PerSecond(_) if more && !idle.is_empty() => due.saturating_duration_since(now),
                _ => Duration::from_millis(100),
            };
            let polled = self.poll.poll(&mut events, Some(wait));
            assert!(
                polled.is_ok() || polled.is_err_and(|e| e.kind() == ErrorKind::Interrupted),
                "epoll works"
            );
            for event in &events {
                let index = event.token().0;
                if self.callers[index].hear(index, &mut buffer, calls, &mut tally) {
                    idle.push_back(index);
                }
            }
        }
    }
}

impl Caller {
    fn ask(&mut self, index: usize, since: Instant, calls: &mut impl Calls) -> bool {
        self.request.clear();
        let Some(number) = calls.next(index, &mut self.request) else { return false };
        self.asked = Some((number, since));
        // A request is far smaller than a socket's buffer, and the one before it has been answered.
        self.written = self.stream.write(&self.request).expect("the server reads");
        assert_eq!(self.written, self.request.len(), "a request fits into a socket's buffer");
        true
    }

    /// Reads what there is. True when that was the end of the answer.
    fn hear(&mut self, index: usize, buffer: &mut [u8], calls: &mut impl Calls, tally: &mut Tally) -> bool {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => panic!("the server closed a caller's connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("a caller's connection broke: {error}"),
            };
            self.answer.extend_from_slice(&buffer[..read]);
            if read < buffer.len() {
                break; // that was all there is: saves a call that says so
            }
        }
        let Some(whole) = answer(&self.answer) else { return false };
        let (number, since) = self.asked.take().expect("it was asked");
        tally.millis.push(since.elapsed().as_secs_f64() * 1000.0);
        if (200..300).contains(&whole.status) {
            tally.done += 1;
        } else {
            tally.refused += 1;
        }
        calls.answered(index, number, whole.status, &self.answer[whole.body]);
        self.answer.clear();
        true
    }
}
