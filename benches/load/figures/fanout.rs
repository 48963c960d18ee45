//! One publish to thousands of watchers, on one server core: how fast the last of them hears, and how many deliveries
//! a second there are, one publish in flight and in bursts.
//!
//! With one in flight, deliveries a second are counted from the first watcher's hearing to the last one's: the same
//! for all, without what comes before (for headcount a commit, which others do not make). The time from publishing to
//! the last watcher has everything in it. In a burst, 64 messages are published at once, and all are waited for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::peers::{self, Peer};
use crate::report::{Bar, Report};
use crate::stage::Stage;
use crate::watchers::Watchers;

/// Messages in a burst.
const BURST: u64 = 64;

/// Between publishes: longer than a small room's frames are apart.
const PAUSE: Duration = Duration::from_millis(40);

#[derive(Default)]
struct Runs {
    in_flight: Vec<f64>,
    last_ms: Vec<f64>,
    burst: Vec<f64>,
}

pub async fn measure(stage: &Stage, report: &mut Report, count: usize) {
    let mut all: BTreeMap<&str, Runs> = BTreeMap::new();
    for round in 0..stage.either(3, 1) {
        for name in peers::NAMES {
            if name == "actioncable" && (count > 1000 || round > 0) {
                continue; // a burst takes it a quarter of a minute
            }
            let _cores = stage.one_server_core();
            match peers::start(name, stage).await {
                Ok(peer) => all.entry(name).or_default().once(stage, name, peer, count),
                Err(why) => report.fail(&format!("fanout_{name}"), &why),
            }
        }
    }
    for (name, runs) in &all {
        report.runs(&format!("fanout_{name}_{count}_watchers_deliveries_per_s"), &runs.in_flight, Bar::None);
        report.runs(&format!("fanout_{name}_{count}_watchers_last_p50_ms"), &runs.last_ms, Bar::None);
        report.runs(
            &format!("fanout_{name}_{count}_watchers_burst_deliveries_per_s"),
            &runs.burst,
            Bar::None,
        );
    }
    compare(report, count);
}

fn compare(report: &mut Report, count: usize) {
    let of = |report: &Report, name: &str, what: &str| {
        report.get(&format!("fanout_{name}_{count}_watchers_{what}"))
    };
    let raw_bar = if count > 1000 { 0.65 } else { 0.75 };
    let bars = [
        ("raw", "deliveries_per_s", Bar::AtLeast(raw_bar)),
        ("nchan", "deliveries_per_s", Bar::AtLeast(1.2)),
        ("nchan", "burst_deliveries_per_s", Bar::AtLeast(3.0)),
        ("socketio", "burst_deliveries_per_s", Bar::AtLeast(2.5)),
        ("actioncable", "burst_deliveries_per_s", Bar::AtLeast(40.0)),
        ("nchan", "last_p50_ms", if count > 1000 { Bar::AtMost(0.85) } else { Bar::None }),
    ];
    for (name, what, bar) in bars {
        let (ours, theirs) = (of(report, "headcount", what), of(report, name, what));
        report.ratio(&format!("fanout_{count}_watchers_{what}_to_{name}_ratio"), ours, theirs, bar);
    }
}

impl Runs {
    fn once(&mut self, stage: &Stage, name: &str, mut peer: Peer, count: usize) {
        let mut watchers = Watchers::open(peer.address, count, &peer.script);
        watchers.pump_for(Duration::from_millis(200), &mut |_, _, _| {});
        let mut next = 1;
        let publishes = stage.either(if count > 1000 { 10 } else { 30 }, 4);
        let (mut rates, mut lasts) = (Vec::new(), Vec::new());
        for _ in 0..publishes {
            let (first, last) = publish(&mut watchers, &mut peer, next, 1);
            next += 1;
            rates.push((count - 1) as f64 / (last - first).as_secs_f64());
            lasts.push(last.as_secs_f64() * 1000.0);
        }
        self.in_flight.push(crate::report::percentile(&rates, 0.5));
        self.last_ms.push(crate::report::percentile(&lasts, 0.5));
        let bursts = if name == "actioncable" { 1 } else { stage.either(6, 2) };
        let mut rates = Vec::new();
        for _ in 0..bursts {
            let (_, last) = publish(&mut watchers, &mut peer, next, BURST);
            next += BURST;
            rates.push((count as u64 * BURST) as f64 / last.as_secs_f64());
        }
        self.burst.push(crate::report::percentile(&rates, 0.5));
    }
}

/// From publishing to the first and to the last watcher.
fn publish(watchers: &mut Watchers, peer: &mut Peer, first: u64, count: u64) -> (Duration, Duration) {
    watchers.listen_anew();
    let begin = Instant::now();
    peer.publisher.publish(first, count);
    let all = watchers.all().len() as u64 * count;
    let before = watchers.marks;
    let heard = watchers.until_marks(all, Duration::from_secs(60));
    if !heard {
        peer.publisher.settle(); // which tells when the server refused
    }
    assert!(heard, "{} of {all} deliveries came within a minute", watchers.marks - before);
    let heard = [watchers.heard_first, watchers.heard_last].map(|at| at.unwrap_or(begin) - begin);
    peer.publisher.settle();
    watchers.pump_for(PAUSE, &mut |_, _, _| {});
    (heard[0], heard[1])
}
