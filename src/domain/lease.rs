//! Heartbeats and leases: how often a session must send a heartbeat, and how long one lasts.

use std::time::Duration;

/// The intervals of this deployment. Advertised in every answer; replicas of one deployment share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Heartbeat interval of a visible session.
    pub heartbeat: Duration,
    /// Lease of a visible session: how long a heartbeat lasts.
    pub lease: Duration,
    /// Heartbeat interval of a hidden session: browsers wake hidden pages about once a minute.
    pub heartbeat_hidden: Duration,
    /// Lease of a hidden session.
    pub lease_hidden: Duration,
}

/// What one session is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Send the next heartbeat after this long.
    pub heartbeat: Duration,
    /// Without one, the session ends after this long.
    pub lease: Duration,
}

impl Pace {
    /// The advice for a visible or a hidden session. A session with a lease of its own sends as many
    /// heartbeats in it as others do in theirs. `spread` in -1.0..=1.0 is jitter: it moves the heartbeat by
    /// up to 10 %, so that sessions that opened a page at the same moment do not send heartbeats in step for
    /// ever.
    pub fn advise(&self, visible: bool, own: Option<Duration>, spread: f64) -> Advice {
        let (heartbeat, usual) =
            if visible { (self.heartbeat, self.lease) } else { (self.heartbeat_hidden, self.lease_hidden) };
        let lease = own.unwrap_or(usual);
        let heartbeat = heartbeat.mul_f64(lease.as_secs_f64() / usual.as_secs_f64());
        Advice { heartbeat: heartbeat.mul_f64(1.0 + 0.1 * spread.clamp(-1.0, 1.0)), lease }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_spreads_by_a_tenth_and_never_nears_the_lease() {
        let second = Duration::from_secs(1);
        let pace = Pace {
            heartbeat: 15 * second,
            lease: 45 * second,
            heartbeat_hidden: 60 * second,
            lease_hidden: 150 * second,
        };
        assert_eq!(pace.advise(true, None, -1.0).heartbeat, Duration::from_millis(13_500));
        assert_eq!(pace.advise(true, None, 7.0).heartbeat, Duration::from_millis(16_500));
        assert_eq!(pace.advise(false, None, 1.0), Advice { heartbeat: 66 * second, lease: 150 * second });
        let own = |secs| Some(second * secs);
        assert_eq!(pace.advise(true, own(9), 0.0), Advice { heartbeat: 3 * second, lease: 9 * second });
        assert_eq!(
            pace.advise(false, own(300), 0.0),
            Advice { heartbeat: 120 * second, lease: 300 * second }
        );
    }
}
