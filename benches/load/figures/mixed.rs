//! Everything at once for a minute: joins and leaves, heartbeats, and watchers in fifty rooms.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::heartbeats::{Beats, sessions};
use crate::callers::{Callers, Calls, Pace, Tally};
use crate::peers::headcount::{join, leave, watching};
use crate::report::{Bar, Report, percentile};
use crate::stage::{Setup, Stage, token};
use crate::watchers::{Watchers, mark};

const ROOMS: usize = 50;

const WATCHERS: usize = 1000;

/// Half of them joins, half leaves.
const CHANGES_PER_S: f64 = 2000.0;

const HEARTBEATS_PER_S: f64 = 5000.0;

/// Between a join and its leave: a second's worth of joins.
const STAYING: u64 = 1000;

/// Users have these numbers; the members that only beat have smaller ones.
const FIRST: u64 = 1_000_000;

/// When what was sent: by the user's number.
type Sent = Mutex<HashMap<u64, Times>>;

#[derive(Clone, Copy)]
struct Times {
    join: Instant,
    leave: Option<Instant>,
}

/// Joins, each followed by the leave of somebody who joined a second ago.
struct Comings<'a> {
    tokens: &'a [String],
    sent: &'a Sent,
    turn: u64,
    joined: u64,
    left: u64,
}

impl Calls for Comings<'_> {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) -> Option<u64> {
        self.turn += 1;
        let leaving = self.turn.is_multiple_of(2) && self.joined > self.left + STAYING;
        let number = if leaving { self.left } else { self.joined };
        let token = &self.tokens[usize::try_from(number).ok()? % self.tokens.len()];
        let (room, session) = (
            format!("mixed{}", number % ROOMS as u64),
            Uuid::from_u128((4 << 76) | (1 << 63) | u128::from(FIRST + number)),
        );
        let now = Instant::now();
        let mut sent = self.sent.lock().expect("nobody panics with it");
        // A user comes again after sixty seconds or so; what is known of the last visit is over then.
        let user = FIRST + number % self.tokens.len() as u64;
        if leaving {
            self.left += 1;
            request.extend_from_slice(&leave(&room, token, session));
            if let Some(times) = sent.get_mut(&user) {
                times.leave = Some(now);
            }
        } else {
            self.joined += 1;
            request.extend_from_slice(&join(&room, token, session));
            sent.insert(user, Times { join: now, leave: None });
        }
        Some(number)
    }
}

pub async fn measure(stage: &Stage, report: &mut Report) {
    let length = stage.either(Duration::from_secs(60), Duration::from_secs(4));
    let database = stage.database("mixed").await;
    let beating = sessions(&database, "elsewhere", 1000).await;
    let tokens: Vec<String> = (0..70_000).map(|number| token(&mark(FIRST + number))).collect();
    let replica = database.replica(Setup { long_leases: true, ..Setup::default() });
    let mut rooms: Vec<Watchers> = (0..ROOMS)
        .map(|room| Watchers::open(replica.address, WATCHERS / ROOMS, &watching(&format!("mixed{room}"))))
        .collect();
    let sent = Sent::default();
    let mut deliveries = Vec::new();
    let (changes, beats) = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut comings = Comings { tokens: &tokens, sent: &sent, turn: 0, joined: 0, left: 0 };
            Callers::open(replica.address, 256).run(Pace::PerSecond(CHANGES_PER_S), length, &mut comings)
        });
        let beating = scope.spawn(|| {
            Callers::open(replica.address, 256).run(
                Pace::PerSecond(HEARTBEATS_PER_S),
                length,
                &mut Beats::new(&beating),
            )
        });
        while !(changing.is_finished() && beating.is_finished()) {
            for watchers in &mut rooms {
                watchers.pump(Duration::from_micros(200), &mut |_, number, now| {
                    deliveries.extend(since_sent(&sent, number, now));
                });
            }
        }
        (changing.join().expect("callers do not panic"), beating.join().expect("callers do not panic"))
    });
    record(report, "mixed_joins_and_leaves", &changes);
    record(report, "mixed_heartbeats", &beats);
    report.value("mixed_deliveries_per_s", deliveries.len() as f64 / length.as_secs_f64(), Bar::None);
    report.value("mixed_delivery_p50_ms", percentile(&deliveries, 0.5), Bar::None);
    report.value("mixed_delivery_p99_ms", percentile(&deliveries, 0.99), Bar::AtMost(250.0));
}

/// What a watcher hears of a user is their leave once that was sent: a join is never heard that late.
fn since_sent(sent: &Sent, number: u64, now: Instant) -> Option<f64> {
    let times = *sent.lock().expect("nobody panics with it").get(&number)?;
    Some((now - times.leave.unwrap_or(times.join)).as_secs_f64() * 1000.0)
}

fn record(report: &mut Report, what: &str, tally: &Tally) {
    report.value(&format!("{what}_per_s"), tally.per_second(), Bar::None);
    report.value(&format!("{what}_refused"), tally.refused as f64, Bar::AtMost(0.0));
    report.value(&format!("{what}_p50_ms"), percentile(&tally.millis, 0.5), Bar::None);
    report.value(&format!("{what}_p99_ms"), percentile(&tally.millis, 0.99), Bar::AtMost(100.0));
    report.value(&format!("{what}_generator_lag_ms"), tally.lag_ms, Bar::None);
}
