//! A large room: ten thousand members, and ten thousand who watch, while a hundred come and go a second. What it costs
//! each watcher, and how late they hear.
//!
//! Such a room sends a frame a second, so that a watcher hears half a second late in the middle and a second late at
//! worst, and what it takes to send ten thousand frames.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::callers::{Callers, Calls, Pace};
use crate::peers::headcount::{join, leave, watching};
use crate::report::{Bar, Report, percentile};
use crate::stage::{Setup, Stage, token};
use crate::watchers::{Watchers, mark};

const ROOM: &str = "large";

/// Changes a second; every other one is a leave.
const CHANGES_PER_S: f64 = 100.0;

/// Connections that the changes come on.
const CALLERS: usize = 8;

/// A room of more than 1000 members sends a frame a second at most; the first may come at once.
const FRAMES_PER_S_MAX: f64 = 1.1;

/// Changes a second, 200 bytes each: a member is some 160, who left some 40.
const BYTES_PER_S_MAX: f64 = 20_000.0;

/// Numbers of those who come and go, far from the members'.
const FIRST: u64 = 1_000_000;

pub async fn measure(stage: &Stage, report: &mut Report) {
    let (members, count) = stage.either((10_000, 10_000), (2000, 200));
    let run = stage.either(Duration::from_secs(20), Duration::from_secs(4));
    let database = stage.database("large").await;
    database.populate(ROOM, 1, members).await;
    let replica = database.replica(Setup { long_leases: true, ..Setup::default() });
    let mut watchers = Watchers::open(replica.address, count, &watching(ROOM));
    watchers.pump_for(Duration::from_secs(2), &mut |_, _, _| {}); // the pages that they begin with
    watchers.count_frames(b"event: ");
    let before: Vec<(u64, u64)> =
        watchers.all().iter().map(|watcher| (watcher.bytes, watcher.frames)).collect();

    let changes = run.as_secs_f64() * CHANGES_PER_S;
    let tokens: Vec<String> = (0..changes as u64).map(|number| token(&mark(FIRST + number))).collect();
    // What five hundred of them hear is kept: of all it would be twenty million times.
    let (mut heard, stride) = (Vec::<(u64, Instant)>::new(), (count / 500).max(1));
    let mut keep = |index: usize, number, at| {
        if index.is_multiple_of(stride) {
            heard.push((number, at));
        }
    };
    let marks = watchers.marks;
    let begin = Instant::now();
    let (asked, lag) = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut churn = Churn::new(&tokens);
            let tally =
                Callers::open(replica.address, CALLERS).run(Pace::PerSecond(CHANGES_PER_S), run, &mut churn);
            assert_eq!(tally.refused, 0, "changes were refused");
            (churn.asked, tally.lag_ms)
        });
        while !changing.is_finished() {
            watchers.pump(Duration::from_millis(20), &mut keep);
        }
        changing.join().expect("callers do not panic")
    });
    // The last change is in a frame a second later.
    let seconds = begin.elapsed().as_secs_f64() + 1.0;
    watchers.pump_for(Duration::from_secs(3), &mut keep);

    // Of a user who joined and left the first mark a watcher sees is the join; leaves are asked for later.
    let millis: Vec<f64> = heard
        .iter()
        .filter_map(|(number, at)| {
            let times = asked.get(number)?;
            let since = times.iter().rev().find(|asked| *asked <= at)?;
            Some((*at - *since).as_secs_f64() * 1000.0)
        })
        .collect();
    let per_s = |of: &dyn Fn(usize) -> u64| {
        let all: Vec<f64> = (0..count).map(|index| of(index) as f64 / seconds).collect();
        percentile(&all, 0.99)
    };
    let all = watchers.all();
    let bytes = per_s(&|index| all[index].bytes - before[index].0);
    let frames = per_s(&|index| all[index].frames - before[index].1);
    report.value("large_bytes_per_watcher_per_s", bytes, Bar::AtMost(BYTES_PER_S_MAX));
    report.value("large_frames_per_watcher_per_s", frames, Bar::AtMost(FRAMES_PER_S_MAX));
    report.value("large_heard_p50_ms", percentile(&millis, 0.5), Bar::None);
    report.value("large_heard_p99_ms", percentile(&millis, 0.99), Bar::AtMost(2000.0));
    report.value("large_generator_lag_ms", lag, Bar::None);
    let expected = asked.values().map(Vec::len).sum::<usize>() * count;
    report.value("large_heard_share", (watchers.marks - marks) as f64 / expected as f64, Bar::AtLeast(0.99));
}

/// Users come, and leave two seconds later or more: not in the frame in which they came, or watchers would be spared both.
struct Churn<'a> {
    tokens: &'a [String],
    present: std::collections::VecDeque<(usize, Uuid)>,
    next: usize,
    /// When each was asked for: a join, then its leave.
    asked: HashMap<u64, Vec<Instant>>,
}

impl<'a> Churn<'a> {
    fn new(tokens: &'a [String]) -> Self {
        Self { tokens, present: std::collections::VecDeque::new(), next: 0, asked: HashMap::new() }
    }
}

impl Calls for Churn<'_> {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) -> Option<u64> {
        let leaving =
            (self.present.len() as f64 >= 2.0 * CHANGES_PER_S).then(|| self.present.pop_front()).flatten();
        let (number, bytes) = match leaving {
            Some((number, session)) => (number, leave(ROOM, &self.tokens[number], session)),
            None => {
                let (number, session) = (self.next, Uuid::new_v4());
                self.next += 1;
                self.present.push_back((number, session));
                (number, join(ROOM, self.tokens.get(number)?, session))
            }
        };
        request.extend_from_slice(&bytes);
        let number = FIRST + number as u64;
        self.asked.entry(number).or_default().push(Instant::now());
        Some(number)
    }
}
