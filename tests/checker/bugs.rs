//! A service with a bug leaves a recording that is wrong but consistent in itself: log, answers, frames and rosters
//! all come from the same wrong database. Each bug is found, and by the promise that it breaks.

use std::collections::BTreeSet;

use crate::checker::{Promise, check};
use crate::database::Bug;
use crate::simulator::{Plan, simulate};

/// How many of twenty recordings show the promise broken.
fn runs_that_break(bug: Bug, promise: Promise) -> usize {
    let mut all = BTreeSet::new();
    let broken = |seed: &u64| {
        let outages = seed.is_multiple_of(2);
        let report = check(&simulate(Plan { outages, bug: Some(bug), ..Plan::calm(*seed) }));
        all.extend(report.violations.iter().map(|violation| violation.promise));
        report.violations.iter().any(|violation| violation.promise == promise)
    };
    let runs = (0..20).filter(broken).count();
    assert!(!all.contains(&Promise::Recorded), "{all:?}");
    runs
}

macro_rules! bugs {
    ($($name:ident: $bug:ident breaks $promise:ident in $runs:literal;)*) => {$(
        #[test]
        fn $name() {
            let runs = runs_that_break(Bug::$bug, Promise::$promise);
            assert!(runs >= $runs, "{runs} of 20");
        }
    )*};
}

// Half of the runs have an outage, which two of these need and one is excused by.
bugs! {
    an_ack_without_a_commit_breaks_p1: AcksLost breaks P1Acked in 18;
    an_ack_before_its_commit_breaks_p1: AcksEarly breaks P1Acked in 18;
    a_slow_stream_breaks_p1: StreamsSlow breaks P1Delivered in 18;
    an_old_roster_breaks_p2: RostersStale breaks P2ReadYourWrites in 18;
    a_joined_for_a_second_tab_breaks_p3: TabsJoin breaks P3OneJoinOneLeave in 18;
    a_left_for_one_tab_of_two_breaks_p3: TabsLeave breaks P3OneJoinOneLeave in 18;
    a_grace_that_is_not_waited_for_breaks_p3: GraceIgnored breaks P3OneJoinOneLeave in 18;
    a_frame_that_is_left_out_breaks_p5: FramesSkipped breaks P5OrderedStreams in 18;
    a_frame_that_comes_twice_breaks_p5: FramesRepeated breaks P5OrderedStreams in 18;
    a_partial_replay_breaks_p6: ReplaysPartial breaks P6Resumable in 18;
    a_snapshot_for_an_untrue_reason_breaks_p6: ReplaysNever breaks P6Resumable in 18;
    a_lease_that_is_cut_short_breaks_p7: LeasesShort breaks P7NoFalseLeave in 18;
    a_sweep_that_counts_an_outage_breaks_p7: OutagesIgnored breaks P7NoFalseLeave in 8;
    a_sweep_that_never_runs_breaks_p8: SweepsMissing breaks P8NoGhost in 10;
    a_heartbeat_that_revives_breaks_p9: Resurrection breaks P9NoResurrection in 18;
}
