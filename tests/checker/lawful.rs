//! Recordings of a service that keeps its promises are clean, and their numbers are right.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::checker::{Promise, Report, check};
use crate::database::Bug;
use crate::recording::{Edge, Record, Recording, What};
use crate::simulator::{Plan, simulate};

fn assert_clean(plan: Plan) -> Report {
    let report = check(&simulate(plan));
    let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{plan:?}\n{}", found.join("\n"));
    report
}

#[test]
fn calm_recordings_are_clean() {
    let mut expired = 0;
    for seed in 0..30 {
        let summary = assert_clean(Plan::calm(seed)).summary;
        expired += summary.expired;
        assert!(summary.acked > 300 && summary.frames > 300 && summary.events > 100, "{summary:?}");
        assert!(summary.deliveries > 100, "{summary:?}");
        assert_eq!(summary.worst_latency, summary.worst_latency_outside_faults);
        assert!(summary.worst_latency < Duration::from_millis(60), "{summary:?}");
    }
    assert!(expired > 20, "{expired}");
}

#[test]
fn recordings_with_outages_are_clean() {
    for seed in 0..30 {
        let summary = assert_clean(Plan { outages: true, ..Plan::calm(seed) }).summary;
        let [heal] = summary.heal_time.as_slice() else { panic!("one outage: {summary:?}") };
        assert!(heal.first_ack.unwrap() < Duration::from_secs(1), "{heal:?}");
        assert!(heal.first_frame.unwrap() < Duration::from_secs(1), "{heal:?}");
    }
}

#[test]
fn recordings_without_a_common_clock_are_clean() {
    for seed in 0..30 {
        assert_clean(Plan { outages: true, clock: false, ..Plan::calm(seed) });
    }
}

/// A fault of one client, such as a reader that stalls, excuses its streams and no others.
#[test]
fn a_stalled_reader_excuses_only_itself() {
    for seed in 0..10 {
        let mut recording = simulate(Plan { bug: Some(Bug::StreamsSlow), ..Plan::calm(seed) });
        let late = |recording: &Recording| {
            let violations = check(recording).violations.into_iter();
            let late = violations.filter(|violation| violation.promise == Promise::P1Delivered);
            late.map(|violation| violation.text.split(' ').next().unwrap().to_owned())
                .collect::<BTreeSet<_>>()
        };
        let mut expected = late(&recording);
        let (name, only) = ("stalled".to_owned(), Some("watcher4".to_owned()));
        let what = What::Fault { name, edge: Edge::Begin, only };
        recording.records.insert(0, Record { at: Duration::ZERO, what });
        expected.remove("watcher4");
        assert_eq!(late(&recording), expected);
    }
}

#[test]
fn what_a_failover_lost_is_told_apart() {
    let mut lost = 0;
    for seed in 0..30 {
        let summary = assert_clean(Plan { failover: true, ..Plan::calm(seed) }).summary;
        assert!(summary.frames_of_older_epochs > 0, "{summary:?}");
        lost += summary.lost_at_failover.len();
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn a_recording_reads_back_as_written() {
    let recording = simulate(Plan { outages: true, failover: true, ..Plan::calm(1) });
    let mut bytes = Vec::new();
    recording.write(&mut bytes).unwrap();
    assert_eq!(Recording::read(bytes.as_slice()).unwrap(), recording);
}
