//! Limits of a replica: rate limits by user, session and address, budgets of what a user costs others, and limits of open
//! streams by user, address and replica. Limits by user and session do not apply to the server key; those by address and
//! replica do. The newest is refused, and what is open is never evicted: evicting makes clients push each other out in
//! circles. Every limit that is applied is told in the answer ([`quota`]).
//!
//! At a limit the new request or stream is refused. An open stream is never evicted: clients that reconnect
//! would evict each other in turn. Bounded: [`Limits::forget`] drops keys that are back at their full
//! allowance.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota as Allowance, RateLimiter};

use super::budget::Budget;
use super::problem::{Code, Problem};
use super::quota::{self, Quota};
use crate::domain::address::counted;
use crate::domain::id::{SessionId, UserId};
use crate::settings::LimitSettings;

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// A rate per key; none where it is switched off.
struct Rate<K: Clone + Hash + Eq> {
    policy: &'static str,
    per_second: u32,
    limiter: Option<Limiter<K>>,
}

impl<K: Clone + Hash + Eq> Rate<K> {
    /// So many a second, and five seconds' worth at once.
    fn new(policy: &'static str, per_second: u32) -> Self {
        let allowance =
            |rate: NonZeroU32| Allowance::per_second(rate).allow_burst(rate.saturating_mul(BURST));
        let limiter = NonZeroU32::new(per_second).map(|rate| RateLimiter::keyed(allowance(rate)));
        Self { policy, per_second, limiter: limiter.map(RateLimiter::with_middleware) }
    }

    fn take(&self, key: &K, code: Code) -> Result<(), Problem> {
        self.take_many(key, 1, code)
    }

    /// Takes as many at once, but no more than there can be.
    fn take_many(&self, key: &K, count: usize, code: Code) -> Result<(), Problem> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let most = self.per_second.saturating_mul(BURST.get());
        let count = u32::try_from(count).unwrap_or(most).clamp(1, most);
        let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let checked = limiter.check_key_n(key, count).map_err(|_| Code::Internal)?;
        match checked {
            Ok(state) => {
                quota::note(self.quota(&state));
                Ok(())
            }
            Err(until) => {
                let quota = self.none_left();
                quota::note(quota);
                Err(Problem::limited(code, quota, until.wait_time_from(DefaultClock::default().now())))
            }
        }
    }

    fn quota(&self, state: &StateSnapshot) -> Quota {
        let (rate, left) = (u64::from(self.per_second), u64::from(state.remaining_burst_capacity()));
        let most = rate * u64::from(BURST.get());
        let reset = most.saturating_sub(left).div_ceil(rate.max(1));
        Quota { policy: self.policy, most, window: Some(BURST.get().into()), left, reset: Some(reset) }
    }

    fn none_left(&self) -> Quota {
        let most = u64::from(self.per_second) * u64::from(BURST.get());
        let window = Some(u64::from(BURST.get()));
        Quota { policy: self.policy, most, window, left: 0, reset: window }
    }

    fn forget(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// Rows that are looked up for one unit of reading: as much work as the call itself.
const ROWS_A_UNIT: usize = 20;

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
    reads: Budget,
    events: Budget,
    open: Arc<Mutex<OpenStreams>>,
}

impl Limits {
    /// From the settings.
    pub fn new(settings: LimitSettings) -> Self {
        Self {
            writes: Rate::new("writes", settings.writes_per_user),
            session_writes: Rate::new("session-writes", settings.writes_per_session),
            heartbeats: Rate::new("heartbeats", settings.heartbeats_per_user),
            session_heartbeats: Rate::new("session-heartbeats", settings.heartbeats_per_session),
            requests: Rate::new("requests", settings.requests_per_address),
            reads: Budget::new("reads", settings.reads_per_user),
            events: Budget::new("events", settings.events_per_user),
            open: Arc::default(),
            settings,
        }
    }

    /// Rate limit of a user's writes: join, leave, update, kick, profile.
    pub fn write(&self, user: Option<&UserId>) -> Result<(), Problem> {
        user.map_or(Ok(()), |user| self.writes.take(user, Code::TooManyWrites))
    }

    /// A request with so many heartbeats.
    pub fn heartbeats(&self, user: Option<&UserId>, count: usize) -> Result<(), Problem> {
        user.map_or(Ok(()), |user| self.heartbeats.take_many(user, count, Code::TooManyHeartbeats))
    }

    /// A read that looks up so many users, rooms, members or sessions, as far as is known before. See [`Limits::have_read`].
    pub fn read(&self, user: Option<&UserId>, rows: usize) -> Result<(), Problem> {
        take(&self.reads, user, 1 + rows / ROWS_A_UNIT, Code::TooManyReads)
    }

    /// What a read has looked up besides.
    pub fn have_read(&self, user: Option<&UserId>, rows: usize) {
        charge(&self.reads, user, rows / ROWS_A_UNIT);
    }

    /// A write that causes so many events, as far as is known before. See [`Limits::have_caused`].
    pub fn cause(&self, user: Option<&UserId>, events: usize) -> Result<(), Problem> {
        take(&self.events, user, events, Code::TooManyEvents)
    }

    /// Events that a write caused besides.
    pub fn have_caused(&self, user: Option<&UserId>, events: usize) {
        charge(&self.events, user, events);
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
        if let Some(user) = user {
            place("streams", open.users.get(user), self.settings.streams_per_user)?;
        }
        if let Some(address) = &address {
            place("address-streams", open.addresses.get(address), self.settings.streams_per_address)?;
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
        self.reads.forget(Instant::now());
        self.events.forget(Instant::now());
    }

    /// The address that the request counts for; none where the peer is gone.
    fn address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        let lines: Vec<&[u8]> =
            request.headers().get_all("x-forwarded-for").map(HeaderValue::as_bytes).collect();
        Some(counted(self.settings.trusted_proxies.client(peer, lines.into_iter())))
    }
}

fn take(budget: &Budget, user: Option<&UserId>, units: usize, code: Code) -> Result<(), Problem> {
    let Some(user) = user else { return Ok(()) };
    match budget.take(user, u32::try_from(units).unwrap_or(u32::MAX), Instant::now()) {
        Ok(quota) => {
            quota.into_iter().for_each(quota::note);
            Ok(())
        }
        Err((quota, wait)) => {
            quota::note(quota);
            Err(Problem::limited(code, quota, wait))
        }
    }
}

fn charge(budget: &Budget, user: Option<&UserId>, units: usize) {
    let (Some(user), Ok(units)) = (user, u32::try_from(units)) else { return };
    if units > 0 {
        budget.charge(user, units, Instant::now()).into_iter().for_each(quota::note);
    }
}

/// One more of so many places, where there are `max`; none is no limit.
fn place(policy: &'static str, open: Option<&usize>, max: usize) -> Result<(), Problem> {
    if max == 0 {
        return Ok(());
    }
    let taken = open.copied().unwrap_or_default();
    let quota = |left: usize| {
        let [most, left] = [max, left].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        Quota { policy, most, window: None, left, reset: None }
    };
    if taken >= max {
        quota::note(quota(0));
        return Err(Problem::full(Code::TooManyStreams, quota(0)));
    }
    quota::note(quota(max - taken - 1));
    Ok(())
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
