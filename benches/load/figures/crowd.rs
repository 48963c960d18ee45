//! A crowd: everybody joins one room of 1000 members that 1000 watch, as fast as they are answered. At the end every
//! watcher must be where the room is.

use std::time::{Duration, Instant};

use super::joins::Joins;
use crate::callers::{Callers, Pace, Tally};
use crate::peers::headcount::watching;
use crate::peers::socketio;
use crate::report::{Bar, Report};
use crate::request::{Line, post};
use crate::stage::{Database, Setup, Stage, token};
use crate::watchers::{Watcher, Watchers, mark};

const MEMBERS: u64 = 1000;

const WATCHERS: usize = 1000;

const CALLERS: usize = 256;

/// A room of more than 1000 members sends a frame a second at most; below that four.
const FRAMES_PER_S_MAX: f64 = 4.0;

pub async fn measure(stage: &Stage, report: &mut Report) {
    let run = stage.either(Duration::from_secs(5), Duration::from_secs(1));
    let tokens: Vec<String> =
        (0..stage.either(50_000, 10_000)).map(|number| token(&mark(1_000_000 + number))).collect();
    let (mut rates, mut behind, mut equal, mut frames) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.either(3, 1) {
        let database = stage.database("crowd").await;
        database.populate("room0", 1, MEMBERS).await;
        let replica = database.replica(Setup { long_leases: true, ..Setup::default() });
        let mut watchers = Watchers::open(replica.address, WATCHERS, &watching("room0"));
        watchers.pump_for(Duration::from_secs(1), &mut |_, _, _| {});
        watchers.count_frames(b"event: diff");
        let (tally, ended) = rush(&mut watchers, replica.address, &tokens, run);
        assert_eq!(tally.refused, 0, "joins were refused");
        rates.push(tally.per_second());
        // A stream is whole up to its last cursor, so that is what all must have. No list of marks is compared: a burst of
        // more changes than a list may have is told by a snapshot of the first page.
        let version = version(&database).await;
        let there = |watcher: &Watcher| watcher.version() == version;
        watchers.until(Duration::from_secs(20), there);
        behind.push(ended.elapsed().as_secs_f64());
        let right = watchers.all().iter().filter(|watcher| there(watcher)).count();
        equal.push(right as f64 / WATCHERS as f64);
        let most = watchers.all().iter().map(|watcher| watcher.frames).max().unwrap_or(0) as f64;
        frames.push(most / (tally.took + ended.elapsed()).as_secs_f64());
        assert_eq!(count(&database).await, MEMBERS as f64 + tally.done as f64, "the room has all of them");
    }
    report.runs("crowd_joins_per_s", &rates, Bar::AtLeast(2000.0));
    report.runs("crowd_watchers_at_the_last_version_share", &equal, Bar::AtLeast(1.0));
    report.runs("crowd_frames_per_watcher_per_s", &frames, Bar::AtMost(FRAMES_PER_S_MAX));
    report.runs("crowd_last_watcher_behind_s", &behind, Bar::None);
    if let Err(why) = peer(stage, report).await {
        report.fail("crowd_socketio", &why);
    }
}

async fn count(database: &Database) -> f64 {
    database.number("select member_count from headcount.rooms where room_id = 'room0'").await
}

async fn version(database: &Database) -> u64 {
    database.number("select version from headcount.rooms where room_id = 'room0'").await as u64
}

/// Callers on a thread of their own; the watchers are read here meanwhile.
fn rush(
    watchers: &mut Watchers,
    address: std::net::SocketAddr,
    tokens: &[String],
    run: Duration,
) -> (Tally, Instant) {
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut joins = Joins::new(tokens, 1, CALLERS);
            let tally = Callers::open(address, CALLERS).run(Pace::Closed, run, &mut joins);
            (tally, Instant::now())
        });
        while !calling.is_finished() {
            watchers.pump(Duration::from_millis(20), &mut |_, _, _| {});
        }
        calling.join().expect("callers do not panic")
    })
}

/// Socket.IO with 1000 watchers: a join is over when all of them were told, which is what their state asks for.
async fn peer(stage: &Stage, report: &mut Report) -> Result<(), String> {
    let database = stage.database("socketio").await;
    let near = socketio::node(stage, &database, None)?;
    let far = socketio::other_node(stage, &database)?;
    let mut watchers = Watchers::open(near.address, WATCHERS, &socketio::watching());
    watchers.pump_for(Duration::from_secs(2), &mut |_, _, _| {});
    let joins = stage.either(200, 10);
    let begin = Instant::now();
    let mut lines: Vec<Line> = (0..16).map(|_| Line::open(far.address)).collect();
    for number in 1..=joins {
        let line = &mut lines[usize::try_from(number % 16).expect("a small number")];
        line.send(&post(&format!("/join?user={number}"), "", ""));
    }
    if !watchers.until_marks(joins * WATCHERS as u64, Duration::from_secs(60)) {
        return Err("not every watcher heard of every join within a minute".into());
    }
    report.value("crowd_socketio_joins_per_s", joins as f64 / begin.elapsed().as_secs_f64(), Bar::None);
    Ok(())
}
