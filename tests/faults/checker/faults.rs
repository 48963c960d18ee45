//! When something was broken, and how much longer things may take for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::recording::{Edge, Recording, Settings, What};

/// The design's own slack: a ghost is gone after lease + sweep interval + this.
const SLACK: Duration = Duration::from_secs(1);

pub struct Faults<'a> {
    settings: &'a Settings,
    /// In the order of their begins.
    windows: Vec<Window<'a>>,
}

struct Window<'a> {
    begin: Duration,
    end: Duration,
    only: Option<&'a str>,
    /// Nobody could write to the database.
    outage: bool,
}

impl<'a> Faults<'a> {
    pub fn of(recording: &'a Recording) -> Self {
        let mut open: BTreeMap<(&str, Option<&str>), Duration> = BTreeMap::new();
        let mut windows = Vec::new();
        let mut close = |(name, only): (&str, _), begin, end| {
            windows.push(Window { begin, end, only, outage: name.starts_with("postgres") });
        };
        for record in &recording.records {
            match &record.what {
                What::Fault { name, edge: Edge::Begin, only } => {
                    open.entry((name, only.as_deref())).or_insert(record.at);
                }
                What::Fault { name, edge: Edge::End, only } => {
                    let key = (name.as_str(), only.as_deref());
                    if let Some(begin) = open.remove(&key) {
                        close(key, begin, record.at);
                    }
                }
                What::Healed => {
                    for (key, begin) in std::mem::take(&mut open) {
                        close(key, begin, record.at);
                    }
                }
                _ => {}
            }
        }
        for (key, begin) in open {
            close(key, begin, recording.settings.rest_at);
        }
        windows.sort_by_key(|window| window.begin);
        Self { settings: &recording.settings, windows }
    }

    /// The latest moment at which something may still happen that began at `from` and was due at `due`, when each
    /// fault that it meets gives it until so long after its end. Faults in a row add up.
    fn extend(&self, from: Duration, due: Duration, allowance: Duration, client: Option<&str>) -> Duration {
        let concerns = |window: &&Window<'_>| window.only.is_none() || window.only == client;
        self.windows.iter().filter(concerns).fold(due, |due, window| {
            let met = window.begin <= due && from <= window.end + allowance;
            if met { due.max(window.end + allowance) } else { due }
        })
    }

    /// When every stream of this client must have what was committed then.
    pub fn delivery_due(&self, committed: Duration, client: &str) -> Duration {
        let due = committed + self.settings.deliver_within;
        self.extend(committed, due, self.settings.heal_within, Some(client))
    }

    /// When a session that was silent since must be gone. After an outage one more full lease, and the spread.
    pub fn lease_due(&self, silent_since: Duration) -> Duration {
        self.sweep_due(silent_since, self.settings.lease)
    }

    /// When a leave with grace that was acked then must be complete.
    pub fn grace_due(&self, acked: Duration) -> Duration {
        self.sweep_due(acked, self.settings.leave_grace)
    }

    fn sweep_due(&self, from: Duration, after: Duration) -> Duration {
        let Settings { lease, sweep_interval, clock_error, heal_within, spread, .. } = self.settings;
        let sweep = *sweep_interval + SLACK + *clock_error;
        self.extend(from, from + after + sweep, *heal_within + *lease + sweep + *spread, None)
    }

    /// The end of an outage after which nobody may expire yet: the database was away for longer than three sweep
    /// intervals, so every lease counts from its return at the earliest. Only half of that lease is looked at: the
    /// database is back a moment before anybody notes that it is.
    pub fn pardons(&self, expired: Duration) -> Option<Duration> {
        let Settings { lease, sweep_interval, .. } = self.settings;
        let long = |window: &&Window<'_>| window.outage && window.end - window.begin > 3 * *sweep_interval;
        let mut long = self.windows.iter().filter(long);
        long.find(|w| w.begin + 3 * *sweep_interval < expired && expired < w.end + *lease / 2).map(|w| w.end)
    }

    /// Whether something was broken, or just healed, between these.
    pub fn meet(&self, from: Duration, to: Duration) -> bool {
        let after = self.settings.heal_within;
        self.windows.iter().any(|window| window.begin <= to && from <= window.end + after)
    }
}
