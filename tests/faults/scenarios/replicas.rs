//! Replicas that are killed, stopped, restarted. None of it is a leave.

use rustix::process::Signal;

use super::s;
use crate::postgres::signal;
use crate::run::{Plan, Run, scenario};

#[tokio::test(flavor = "multi_thread")]
async fn replica_killed() {
    scenario(Plan::new("replica_killed"), async |run: &mut Run| {
        run.warm().await;
        run.begin("kill -9");
        run.replicas[0].kill();
        run.load(s(1)).await;
        run.replicas[0].start().await;
        run.heal("kill -9");
        run.recover().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_restarted_one_after_the_other() {
    scenario(Plan::new("rolling_restart"), async |run: &mut Run| {
        run.warm().await;
        for n in 0..run.replicas.len() {
            run.begin("restart");
            let took = run.replicas[n].terminate().await;
            run.measure("slowest_stop_ms", crate::summary::millis(took));
            assert!(took <= s(5), "P12: ends within 5 s, took {took:?}");
            run.replicas[n].start().await;
            run.heal("restart");
            run.load(s(2)).await;
        }
    })
    .await;
}

/// A rolling restart while nobody moves emits nothing.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_restarted_at_rest_emit_no_event() {
    let mut plan = Plan::new("rolling_restart_silent");
    plan.size.wanderers = 0;
    scenario(plan, async |run: &mut Run| {
        let joined = "select count(*) from headcount.presence";
        run.database.until("everybody is there", s(20), joined, |n| n >= 12).await;
        let events = run.database.number("select count(*) from headcount.events").await;
        for n in 0..run.replicas.len() {
            run.begin("restart");
            run.replicas[n].terminate().await;
            run.replicas[n].start().await;
            run.heal("restart");
            run.load(s(1)).await;
        }
        run.load(s(4)).await; // a lease and a sweep: who was lost would be gone now
        assert_eq!(run.database.number("select count(*) from headcount.events").await, events);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_stopped_for_a_moment_and_for_longer_than_a_lease() {
    scenario(Plan::new("replica_stopped"), async |run: &mut Run| {
        run.warm().await;
        for time in [s(2), s(5)] {
            run.begin("stopped");
            let pid = run.replicas[0].pid();
            signal(pid, Signal::STOP);
            run.load(time).await;
            signal(pid, Signal::CONT);
            run.heal("stopped");
            run.load(s(2)).await;
        }
    })
    .await;
}
