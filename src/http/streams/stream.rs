//! The body of an event stream. It holds no frames of its own: it reads the rings of its rooms by position.
//!
//! Bounded by what one socket buffers (see `http::server::socket`). A slow watcher whose next frame was
//! evicted from a ring is disconnected with `bye {slow}`; one that never reads is disconnected by the
//! socket's user timeout.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use crate::auth::{Barred, Claims};
use crate::http::request::caller::Caller;
use crate::http::request::limits::StreamPermit;
use crate::http::service::Service;
use crate::hub::frame::{ByeReason, Wire, bye, sync};
use crate::hub::{Fan, Next, ROUND, WakeSlot, Watcher};
use crate::measure::meters;

/// The media type of event streams.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The head of every event stream.
pub fn head() -> HttpResponseBuilder {
    let mut head = HttpResponse::Ok();
    head.insert_header((CONTENT_TYPE, EVENT_STREAM))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no")); // else nginx buffers frames
    head
}

/// When a stream ends by itself.
pub struct Ends {
    /// When it reaches its greatest age.
    pub max_age: Instant,
    /// When the token or ticket that opened it expires.
    pub expires: Option<SystemTime>,
    /// What opened it, which may be revoked.
    caller: Caller,
    barred: Arc<Barred>,
    /// The edition of `barred` with which it was last checked; 0: not yet.
    checked: Cell<u64>,
}

impl Ends {
    /// Of a stream that this caller opens now.
    pub fn of(service: &Service, caller: &Caller) -> Self {
        let expires = caller.claims().and_then(expiry);
        let barred = service.keys.barred().clone();
        let max_age = max_age(service.max_stream_age);
        Self { max_age, expires, caller: caller.clone(), barred, checked: Cell::new(0) }
    }

    /// Whether it must end now, and why.
    pub fn reached(&self, draining: bool) -> Option<ByeReason> {
        if draining {
            Some(ByeReason::Drain)
        } else if self.expires.is_some_and(|at| at <= SystemTime::now()) {
            Some(ByeReason::TokenExpired)
        } else if self.revoked() {
            Some(ByeReason::Revoked)
        } else if self.max_age <= Instant::now() {
            Some(ByeReason::MaxAge)
        } else {
            None
        }
    }

    /// Checked again only after a change, because this is asked at every frame.
    pub fn revoked(&self) -> bool {
        let edition = self.barred.edition();
        let unchanged = self.checked.replace(edition) == edition;
        !unchanged && self.caller.claims().is_some_and(|claims| self.barred.check(claims).is_err())
    }

    /// When it must end at the latest, if the replica does not drain before.
    pub fn at(&self) -> tokio::time::Instant {
        let now = SystemTime::now();
        let left = self.expires.map(|at| at.duration_since(now).unwrap_or_default());
        let expires = left.and_then(|left| Instant::now().checked_add(left));
        expires.map_or(self.max_age, |expires| expires.min(self.max_age)).into()
    }
}

/// When the token expires; none for one that outlives the clock, of which any number of seconds may be said.
fn expiry(claims: &Claims) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp))
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
    /// A stream of these rooms. It begins with `retry:` and the first frame of each room that has one. Then
    /// comes a `sync` if there are several rooms or no first frame, so that the watcher knows it is up to
    /// date; or if the hub is stale, so that it knows it may not be.
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

    /// The next frame of any room. If there is none, registers a wake-up with each of them.
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

    /// The next bytes to send. None: the stream has ended, or it will be woken.
    fn next(&mut self, context: &Context<'_>) -> Option<Bytes> {
        if let Some(bytes) = self.ready.pop_front() {
            return Some(bytes);
        }
        if self.ended {
            return None;
        }
        self.turn.wait(context); // arm first, or a drain that races with the check is missed
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

/// The delay before a browser reconnects by itself, in milliseconds. Its jitter keeps a restart from causing
/// a storm of reconnects.
pub fn retry_line() -> Bytes {
    format!("retry: {}\n\n", rand::random_range(1000..=5000)).into()
}

/// The last frame of a stream.
pub fn bye_of(reason: ByeReason) -> Bytes {
    meters().byes.count(reason.as_str(), 1);
    bye(reason, retry(reason)).into()
}

/// The delay before a reconnect after a `bye`, in milliseconds, with jitter. A drain ends all streams of a
/// replica at once, so their reconnects are spread over 3 s. Tokens and greatest ages end streams one by one,
/// so those may reconnect within 1 s.
fn retry(reason: ByeReason) -> u64 {
    let range = match reason {
        ByeReason::Drain => 100..=3000,
        ByeReason::Slow => 1000..=5000,
        ByeReason::TokenExpired | ByeReason::Revoked | ByeReason::MaxAge => 50..=1000,
    };
    rand::random_range(range)
}

/// When a stream reaches its greatest age: the setting, with a jitter of 20 %.
fn max_age(setting: Duration) -> Instant {
    Instant::now() + setting.mul_f64(rand::random_range(0.8..=1.2))
}
