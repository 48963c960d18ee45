//! The body of an event stream. It holds no frames of its own: it reads the rings of its rooms by position.
//!
//! Bounded by what one socket buffers (see `http::server::socket`). A watcher that is too slow falls out of a ring and
//! is cut with `bye {slow}`; one that never reads is closed by the socket's user timeout.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use crate::http::request::limits::StreamPermit;
use crate::hub::frame::{ByeReason, Wire, bye, sync};
use crate::hub::{Fan, Next, ROUND, WakeSlot, Watcher};
use crate::measure::meters;

/// What every event stream is.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The head of every event stream.
pub fn head() -> HttpResponseBuilder {
    let mut head = HttpResponse::Ok();
    head.insert_header((CONTENT_TYPE, EVENT_STREAM))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no")); // nginx would hold frames back
    head
}

/// When a stream ends by itself.
pub struct Ends {
    /// Its age.
    pub max_age: Instant,
    /// The token that opened it expires.
    pub expires: Option<SystemTime>,
}

impl Ends {
    /// Whether it must end now, and why.
    pub fn reached(&self, draining: bool) -> Option<ByeReason> {
        if draining {
            Some(ByeReason::Drain)
        } else if self.expires.is_some_and(|at| at <= SystemTime::now()) {
            Some(ByeReason::TokenExpired)
        } else if self.max_age <= Instant::now() {
            Some(ByeReason::MaxAge)
        } else {
            None
        }
    }

    /// When it does at the latest, if nobody drains.
    pub fn at(&self) -> tokio::time::Instant {
        let now = SystemTime::now();
        let left = self.expires.map(|at| at.duration_since(now).unwrap_or_default());
        let expires = left.and_then(|left| Instant::now().checked_add(left));
        expires.map_or(self.max_age, |expires| expires.min(self.max_age)).into()
    }
}

/// An open stream.
pub struct EventStream {
    fan: Rc<Fan>,
    turn: WakeSlot,
    watches: Vec<Watcher>,
    ready: VecDeque<Bytes>,
    next_sync: u64,
    /// Whether it was told that one of its rooms cannot be read.
    told_stale: bool,
    ends: Ends,
    ended: bool,
    _permit: StreamPermit,
}

impl EventStream {
    /// A stream of these rooms. It begins with `retry:`, then what each room must be told first; when that is
    /// nothing, or of several rooms, with a `sync`, so that the watcher knows it is up to date; and when the database
    /// is away, so that it knows that it may not be.
    pub fn new(
        fan: Rc<Fan>,
        watched: Vec<(Watcher, Option<Wire>)>,
        ends: Ends,
        permit: StreamPermit,
    ) -> Self {
        let turn = fan.join_round();
        let next_sync = fan.tick() + ROUND;
        let (watches, firsts): (Vec<_>, Vec<_>) = watched.into_iter().unzip();
        let ready = VecDeque::from([retry_line()]);
        let (told_stale, ended) = (false, false);
        let mut stream =
            Self { fan, turn, watches, ready, next_sync, told_stale, ends, ended, _permit: permit };
        let firsts: Vec<Wire> = firsts.into_iter().flatten().collect();
        match (stream.watches.len(), firsts.as_slice()) {
            (1, [first]) => {
                stream.ready.push_back(first.whole());
                if stream.fan.hub().stale() {
                    stream.ready.push_back(sync(stream.cursor(), true).into());
                }
            }
            _ => {
                // Without ids: a watcher that is cut between two of these must not resume as if it had them all.
                for first in &firsts {
                    stream.ready.extend([first.without_id(), Bytes::from_static(b"\n")]);
                }
                stream.ready.push_back(sync(stream.cursor(), stream.fan.hub().stale()).into());
            }
        }
        stream
    }

    fn cursor(&self) -> String {
        let cursors = self.watches.iter().filter_map(|watch| Some(watch.cursor()?.to_string()));
        cursors.collect::<Vec<_>>().join(",")
    }

    fn id_line(&self) -> Bytes {
        format!("id: {}\n\n", self.cursor()).into()
    }

    /// The next frame of any room, or a wake-up from each of them.
    fn poll_rooms(&mut self, context: &Context<'_>) -> Option<Bytes> {
        for index in 0..self.watches.len() {
            match self.watches[index].next(context) {
                Next::Nothing => {}
                Next::Behind => return Some(self.end(ByeReason::Slow)),
                Next::Frame(frame) => {
                    let Some(wire) = frame.wire(self.watches[index].mode()) else {
                        continue;
                    };
                    if self.watches.len() == 1 {
                        return Some(wire.whole());
                    }
                    self.ready.push_back(self.id_line());
                    return Some(wire.without_id());
                }
            }
        }
        None
    }

    /// What to send now. Nothing: it has ended, or it will be woken.
    fn next(&mut self, context: &Context<'_>) -> Option<Bytes> {
        if let Some(bytes) = self.ready.pop_front() {
            return Some(bytes);
        }
        if self.ended {
            return None;
        }
        self.turn.wait(context); // arm first: a drain between the check and the wait must not be missed
        if let Some(reason) = self.must_end() {
            return Some(self.end(reason));
        }
        if let Some(bytes) = self.poll_rooms(context) {
            return Some(bytes);
        }
        let stale = self.watches.iter().any(Watcher::stale);
        (self.fan.tick() >= self.next_sync || stale != self.told_stale).then(|| {
            self.next_sync = self.fan.tick() + ROUND;
            self.told_stale = stale;
            sync(self.cursor(), stale || self.fan.hub().stale()).into()
        })
    }

    fn must_end(&self) -> Option<ByeReason> {
        self.ends.reached(self.fan.draining())
    }

    fn end(&mut self, reason: ByeReason) -> Bytes {
        self.ended = true;
        bye_of(reason)
    }
}

impl MessageBody for EventStream {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = &mut *self;
        match this.next(context) {
            Some(bytes) => {
                this.fan.sent(bytes.len());
                Poll::Ready(Some(Ok(bytes)))
            }
            None if this.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// How long a browser waits before it comes back by itself, spread so that a restart is not answered by a storm.
pub fn retry_line() -> Bytes {
    format!("retry: {}\n\n", rand::random_range(1000..=5000)).into()
}

/// The last frame of a stream.
pub fn bye_of(reason: ByeReason) -> Bytes {
    meters().byes.count(reason.as_str(), 1);
    bye(reason, retry(reason)).into()
}

/// How long to wait after a bye. A drained replica's watchers spread over the others; one with a new token or a
/// full day behind it may come at once.
fn retry(reason: ByeReason) -> u64 {
    let range = match reason {
        ByeReason::Drain => 100..=3000,
        ByeReason::Slow => 1000..=5000,
        ByeReason::TokenExpired | ByeReason::MaxAge => 50..=1000,
    };
    rand::random_range(range)
}

/// A stream's greatest age: the setting, spread by 20 %.
pub fn max_age(setting: Duration) -> Instant {
    Instant::now() + setting.mul_f64(rand::random_range(0.8..=1.2))
}
