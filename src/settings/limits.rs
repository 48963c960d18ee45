//! Settings of the limits for one caller, such as rate limits.

use clap::Args;

use crate::domain::address::TrustedProxies;
use crate::store::commands::UserLimits;

/// How much one caller may ask for. The server key is not limited; 0 switches a limit off.
///
/// The defaults are what a person never meets who has 50 tabs open and is in all the rooms that one may be in, and what
/// leaves a replica to the others when one token asks for all of it:
///
/// - 100 writes a second, 500 at once: after a restart of the browser 50 tabs join ten rooms each, or one tab all of the 500
///   rooms that a user may be in. At 1.5 ms of the database each that is a seventh of a core. Half of it for one session.
/// - 40 heartbeats a second, 200 at once: 50 tabs send 3.3 a second, and all 50 when a laptop wakes, some twice.
/// - 100 events a second, 500 at once: a write is one, and a profile one for each room. So the name of a user who is in 400
///   rooms can be changed at once, and every 4 s after that. In batches an event costs 0.1 ms: a hundredth of a core.
/// - 100 units of reading a second, 500 at once: 50 tabs load a roster and a list of 100 users each, 6 units a tab; polls
///   of a page every few seconds are one or two. A unit is a call, and 20 rows more: some 0.6 ms, 6 % of a core.
/// - 200 streams: 50 tabs with two each, of rooms and of a watchlist, and as many again that a lost network has not ended
///   yet. It takes 90 users to fill a replica of 18,000.
#[derive(Args, Debug, Clone)]
pub struct LimitSettings {
    /// Joins, leaves, updates and profiles per second of one user; five times that at once [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_WRITES", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub writes_per_user: u32,
    /// Joins, leaves and updates per second of one session; five times that at once [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_SESSION_WRITES", default_value = "50", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub writes_per_session: u32,
    /// Heartbeats per second of all sessions of one user; five times that at once [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_HEARTBEATS", default_value = "40", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub heartbeats_per_user: u32,
    /// Heartbeats per second of one session; five times that at once [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_SESSION_HEARTBEATS", default_value = "20", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub heartbeats_per_session: u32,
    /// Events per second that one user causes; five times that at once. A join or an update is one, a changed name or picture
    /// one for each room the user is in, an erasure 100 more. A user that owes more than five seconds' worth must wait [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_EVENTS", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub events_per_user: u32,
    /// Units of reading per second of one user; five times that at once. A call is one unit, a question about the past ten, and
    /// every 20 users, rooms, members or sessions that are looked up are one more [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_READS", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub reads_per_user: u32,
    /// Rooms that one user may be in [0 to 5000]
    #[arg(long, env = "HEADCOUNT_LIMIT_ROOMS_USER", default_value = "500", value_parser = clap::value_parser!(u16).range(0..=5000))]
    pub rooms_per_user: u16,
    /// Sessions that one user may have [0 to 5000]
    #[arg(long, env = "HEADCOUNT_LIMIT_SESSIONS_USER", default_value = "100", value_parser = clap::value_parser!(u16).range(0..=5000))]
    pub sessions_per_user: u16,
    /// Requests per second from one address; five times that at once. Off unless set, because behind a proxy that is
    /// not named as trusted everybody has the proxy's address [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_REQUESTS", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub requests_per_address: u32,
    /// Open streams of one user on a replica: some hundredth of what the replica has, so that one user cannot fill it
    #[arg(long, env = "HEADCOUNT_LIMIT_STREAMS_USER", default_value = "200")]
    pub streams_per_user: usize,
    /// Open streams from one address on a replica; off unless set
    #[arg(long, env = "HEADCOUNT_LIMIT_STREAMS_ADDRESS", default_value = "0")]
    pub streams_per_address: usize,
    /// Open connections from one address to a replica, trusted proxies apart; off unless set, because behind a proxy that
    /// is not named as trusted everybody has the proxy's address
    #[arg(long, env = "HEADCOUNT_LIMIT_CONNECTIONS_ADDRESS", default_value = "0")]
    pub connections_per_address: usize,
    /// Open streams on a replica; each needs a file descriptor; 0 leaves it to them
    #[arg(long, env = "HEADCOUNT_LIMIT_STREAMS", default_value = "18000")]
    pub streams_per_replica: usize,
    /// Networks and addresses of our own proxies, separated by commas: only these are believed about X-Forwarded-For
    #[arg(long, env = "HEADCOUNT_TRUSTED_PROXIES", default_value = "")]
    pub trusted_proxies: TrustedProxies,
}

impl LimitSettings {
    /// What the database decides of them.
    pub fn user_limits(&self) -> UserLimits {
        let limit = |max: u16| Some(i32::from(max)).filter(|max| *max > 0);
        UserLimits { rooms_max: limit(self.rooms_per_user), sessions_max: limit(self.sessions_per_user) }
    }
}
