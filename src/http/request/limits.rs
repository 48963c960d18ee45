//! Limits of a replica: rate limits by user, session and address, and limits of open streams by user, address
//! and replica. Limits by user and session do not apply to the server key; those by address and replica do.
//!
//! At a limit the new request or stream is refused. An open stream is never evicted: clients that reconnect
//! would evict each other in turn. Bounded: [`Limits::forget`] drops keys that are back at their full
//! allowance.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::{Code, Problem};
use crate::domain::address::counted;
use crate::domain::id::{SessionId, UserId};
use crate::settings::LimitSettings;

/// A rate limit per key; none where it is switched off.
struct Rate<K: Clone + Hash + Eq>(Option<DefaultKeyedRateLimiter<K>>);

impl<K: Clone + Hash + Eq> Rate<K> {
    /// Permits `per_second` requests a second, and a burst of five seconds' worth. 0 switches the limit off.
    fn new(per_second: u32) -> Self {
        let quota = |rate: NonZeroU32| Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST));
        Self(NonZeroU32::new(per_second).map(|rate| RateLimiter::keyed(quota(rate))))
    }

    fn take(&self, key: &K, code: Code) -> Result<(), Problem> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            Problem::after(code, wait)
        })
    }

    fn forget(&self) {
        if let Some(limiter) = &self.0 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

const BURST: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");

#[derive(Default)]
struct OpenStreams {
    all: usize,
    users: HashMap<UserId, usize>,
    addresses: HashMap<IpAddr, usize>,
}

/// The limits of a replica. `user` is the subject of the caller's token; none for the server key.
pub struct Limits {
    settings: LimitSettings,
    writes: Rate<UserId>,
    session_writes: Rate<(UserId, SessionId)>,
    heartbeats: Rate<UserId>,
    session_heartbeats: Rate<(UserId, SessionId)>,
    requests: Rate<IpAddr>,
    open: Arc<Mutex<OpenStreams>>,
}

impl Limits {
    /// From the settings.
    pub fn new(settings: LimitSettings) -> Self {
        Self {
            writes: Rate::new(settings.writes_per_user),
            session_writes: Rate::new(settings.writes_per_session),
            heartbeats: Rate::new(settings.heartbeats_per_user),
            session_heartbeats: Rate::new(settings.heartbeats_per_session),
            requests: Rate::new(settings.requests_per_address),
            open: Arc::default(),
            settings,
        }
    }

    /// Rate limit of a user's writes: join, leave, update, kick, profile.
    pub fn write(&self, user: Option<&UserId>) -> Result<(), Problem> {
        user.map_or(Ok(()), |user| self.writes.take(user, Code::TooManyWrites))
    }

    /// Rate limit of a user's requests with heartbeats.
    pub fn heartbeat(&self, user: Option<&UserId>) -> Result<(), Problem> {
        user.map_or(Ok(()), |user| self.heartbeats.take(user, Code::TooManyHeartbeats))
    }

    /// Rate limit of a session's joins, leaves and updates. The key includes the user, so that nobody can use
    /// up the allowance of another user's session.
    pub fn session_write(&self, user: Option<&UserId>, session: SessionId) -> Result<(), Problem> {
        let Some(user) = user else { return Ok(()) };
        self.session_writes.take(&(user.clone(), session), Code::TooManySessionWrites)
    }

    /// Rate limit of heartbeats, of each session. The first session over its limit refuses the whole request.
    pub fn session_heartbeats(&self, user: Option<&UserId>, sessions: &[SessionId]) -> Result<(), Problem> {
        let Some(user) = user else { return Ok(()) };
        sessions.iter().try_for_each(|session| {
            self.session_heartbeats.take(&(user.clone(), *session), Code::TooManySessionHeartbeats)
        })
    }

    /// Rate limit of an address's requests, of any kind.
    pub fn request(&self, request: &HttpRequest) -> Result<(), Problem> {
        match self.address(request) {
            Some(address) => self.requests.take(&address, Code::TooManyRequests),
            None => Ok(()),
        }
    }

    /// A permit for one more stream.
    pub fn stream(&self, request: &HttpRequest, user: Option<&UserId>) -> Result<StreamPermit, Problem> {
        let address = self.address(request);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.settings.streams_per_replica;
        if most > 0 && open.all >= most {
            return Err(Code::ReplicaFull.into());
        }
        let full = |count: Option<&usize>, max: usize| max > 0 && count.is_some_and(|count| *count >= max);
        if user.is_some_and(|user| full(open.users.get(user), self.settings.streams_per_user)) {
            return Err(Code::TooManyStreams.into());
        }
        if address
            .is_some_and(|address| full(open.addresses.get(&address), self.settings.streams_per_address))
        {
            return Err(Code::TooManyStreams.into());
        }
        open.all += 1;
        if let Some(user) = user {
            *open.users.entry(user.clone()).or_default() += 1;
        }
        if let Some(address) = address {
            *open.addresses.entry(address).or_default() += 1;
        }
        Ok(StreamPermit { open: self.open.clone(), user: user.cloned(), address })
    }

    /// Forgets keys that are back at their full allowance.
    pub fn forget(&self) {
        self.writes.forget();
        self.session_writes.forget();
        self.heartbeats.forget();
        self.session_heartbeats.forget();
        self.requests.forget();
    }

    /// The address that the request counts for; none where the peer is gone.
    fn address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        let lines: Vec<&[u8]> =
            request.headers().get_all("x-forwarded-for").map(HeaderValue::as_bytes).collect();
        Some(counted(self.settings.trusted_proxies.client(peer, lines.into_iter())))
    }
}

/// An open stream's permit; given back when dropped.
pub struct StreamPermit {
    open: Arc<Mutex<OpenStreams>>,
    user: Option<UserId>,
    address: Option<IpAddr>,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(user) = &self.user {
            give_back(&mut open.users, user);
        }
        if let Some(address) = &self.address {
            give_back(&mut open.addresses, address);
        }
    }
}

fn give_back<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
