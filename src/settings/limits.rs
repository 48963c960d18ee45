//! Settings of the limits for one caller, such as rate limits.

use clap::Args;

use crate::domain::address::TrustedProxies;
use crate::store::commands::UserLimits;

/// How much one caller may ask for. The server key is not limited; 0 switches a limit off.
#[derive(Args, Debug, Clone)]
pub struct LimitSettings {
    /// Joins, leaves, updates and profiles per second of one user; five times that at once [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_WRITES", default_value = "200", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub writes_per_user: u32,
    /// Joins, leaves and updates per second of one session; five times that at once [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_SESSION_WRITES", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub writes_per_session: u32,
    /// Requests with heartbeats per second of one user; five times that at once [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_HEARTBEATS", default_value = "200", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub heartbeats_per_user: u32,
    /// Heartbeats per second of one session; five times that at once [0 to 1000000]
    #[arg(long, env = "HEADCOUNT_LIMIT_SESSION_HEARTBEATS", default_value = "20", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub heartbeats_per_session: u32,
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
    /// Open streams of one user on a replica: fewer than the replica has, so that one user cannot fill it
    #[arg(long, env = "HEADCOUNT_LIMIT_STREAMS_USER", default_value = "10000")]
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
