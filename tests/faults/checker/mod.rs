//! Says which promises a recording breaks. A pure function: it can be run again on a written recording, and it is
//! itself tested on recordings that were made wrong on purpose (`tests/checker`).
//!
//! It never guesses. An interval is "somewhere in here", an answer that never came is "maybe", and what an older
//! epoch held after the last one forked from it is not compared. Where that leaves a doubt, the service gets it.

#![allow(dead_code, reason = "the fault tests print what the tests of the checker compare")]

mod acks;
mod causes;
mod delivery;
mod faults;
mod indexed;
mod leases;
mod lives;
mod log;
mod reads;
mod recorded;
mod room;
mod streams;

use std::fmt;
use std::time::Duration;

use super::recording::{EventKind, Outcome, Reason, Recording, What};
use faults::Faults;
use indexed::Indexed;
use lives::Lives;

/// A promise that was broken, by what.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub promise: Promise,
    /// On the run's clock.
    pub at: Duration,
    pub room: String,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.3} s in {:?}: {}", self.promise, self.at.as_secs_f64(), self.room, self.text)
    }
}

/// The promises that a recording can show broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Promise {
    /// What was acked is in the log.
    P1Acked,
    /// What is in the log reached every open stream in time.
    P1Delivered,
    P2ReadYourWrites,
    P3OneJoinOneLeave,
    P4ContiguousHistory,
    P5OrderedStreams,
    P6Resumable,
    P7NoFalseLeave,
    P8NoGhost,
    P9NoResurrection,
    /// When nothing moves any more, every watcher, the roster and the log agree.
    EqualAtRest,
    /// No promise of the service: the recording itself cannot be, so the harness recorded it wrongly.
    Recorded,
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    pub violations: Vec<Violation>,
    pub summary: Summary,
}

/// Numbers of a run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Summary {
    pub operations: usize,
    /// Answered as asked: 2xx.
    pub acked: usize,
    /// Not answered, or with a 5xx: it may have been done.
    pub unknown: usize,
    pub frames: usize,
    /// Frames of an older epoch: only compared among themselves.
    pub frames_of_older_epochs: usize,
    pub events: usize,
    pub expired: usize,
    pub false_leaves: usize,
    /// From commit to frame, over every event and every stream open then.
    pub deliveries: usize,
    pub worst_latency: Duration,
    pub worst_latency_outside_faults: Duration,
    pub p99_latency_outside_faults: Duration,
    /// For each `Healed`: how long until a write was acked and until a stream heard of a change.
    pub heal_time: Vec<HealTime>,
    /// Acked in an older epoch and not in the log that survived. Allowed where replication is asynchronous.
    pub lost_at_failover: Vec<u64>,
}

/// How long after a `Healed`; none when the next one came, or the run ended, before.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct HealTime {
    pub first_ack: Option<Duration>,
    pub first_frame: Option<Duration>,
}

/// Checks everything.
pub fn check(recording: &Recording) -> Report {
    let faults = Faults::of(recording);
    let run = Indexed::of(recording);
    let lives = Lives::of(&run, &faults);
    let mut found = Found::default();
    recorded::makes_sense(recording, &mut found);
    log::alternates(&run, &mut found);
    log::is_contiguous(&run, &mut found);
    log::folds_to_the_roster(&run, &mut found);
    causes::every_event_has_one(&run, &faults, &mut found);
    acks::are_in_the_log(&run, &lives, &mut found);
    reads::see_what_was_seen(&run, &mut found);
    reads::show_what_was_logged(&run, &mut found);
    streams::tell_the_log(&run, &mut found);
    delivery::is_in_time(&run, &faults, &mut found);
    leases::nobody_leaves_early(&run, &lives, &faults, &mut found);
    leases::nobody_stays_late(&run, &lives, &mut found);
    leases::nobody_comes_back(&run, &lives, &mut found);
    count(recording, &run, &mut found.summary);
    found.violations.sort_by_key(|violation| violation.at);
    Report { violations: found.violations, summary: found.summary }
}

/// Where the checks put what they find.
#[derive(Default)]
struct Found {
    violations: Vec<Violation>,
    summary: Summary,
}

impl Found {
    fn add(&mut self, promise: Promise, at: Duration, room: &str, text: String) {
        self.violations.push(Violation { promise, at, room: room.to_owned(), text });
    }
}

fn count(recording: &Recording, run: &Indexed<'_>, summary: &mut Summary) {
    summary.operations = run.ops.len();
    summary.unknown = run.ops.iter().filter(|op| op.unknown()).count();
    summary.acked = run.ops.iter().filter(|op| op.acked()).count();
    summary.events = recording.log.len();
    let expired = |reason: Option<Reason>| reason == Some(Reason::Expired);
    summary.expired = recording.log.iter().filter(|e| e.kind == EventKind::Left && expired(e.reason)).count();
    summary.frames = recording.records.iter().filter(|r| matches!(r.what, What::Frame(_))).count();
    summary.heal_time = heal_times(recording);
}

fn heal_times(recording: &Recording) -> Vec<HealTime> {
    let mut times: Vec<(Duration, HealTime)> = Vec::new();
    for record in &recording.records {
        match &record.what {
            What::Healed => times.push((record.at, HealTime::default())),
            What::Answered { outcome: Outcome::Ok { .. }, .. } => {
                if let Some((healed, time)) = times.last_mut() {
                    time.first_ack.get_or_insert(record.at - *healed);
                }
            }
            What::Frame(frame) if frame.is_change() => {
                if let Some((healed, time)) = times.last_mut() {
                    time.first_frame.get_or_insert(record.at - *healed);
                }
            }
            _ => {}
        }
    }
    times.into_iter().map(|(_, time)| time).collect()
}
