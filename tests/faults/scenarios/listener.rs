//! P13: whatever becomes of notifications changes latency only.

use std::time::Duration;

use sqlx::Executor;

use super::s;
use crate::proxy::How;
use crate::run::{Plan, Run, scenario};
use crate::wait::until_so;

/// What no notification tells, the poll finds. None of this counts as a fault that would excuse more.
fn by_poll(name: &'static str) -> Plan {
    let mut plan = Plan::new(name);
    plan.deliver_within = s(3);
    plan.p99_within = s(3);
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_cut_again_and_again() {
    scenario(by_poll("listener_cut"), async |run: &mut Run| {
        run.warm().await;
        for how in [How::Rst, How::Fin, How::Rst, How::Fin] {
            run.ears.iter().for_each(|ear| ear.cut(how));
            run.load(Duration::from_millis(700)).await;
        }
        for _ in 0..4 {
            run.database
                .execute("select pg_terminate_backend(pid) from pg_stat_activity where split_part(application_name, ' ', 1) = 'headcount-listener'")
                .await;
            run.load(Duration::from_millis(700)).await;
        }
        run.recorder.healed();
        run.recover().await;
    })
    .await;
}

/// Silent for ever, and nobody is told: the poll bridges it until the nonce finds out.
#[tokio::test(flavor = "multi_thread")]
async fn listener_half_open() {
    scenario(by_poll("listener_half_open"), async |run: &mut Run| {
        run.warm().await;
        let before = run.ears[0].open();
        run.ears.iter().for_each(crate::proxy::Proxy::half_open);
        // Replaced without anybody's help: the new connection is a second one until the old one's end is noticed.
        let from = run.recorder.now();
        until_so("a deaf listener is noticed", s(15), async || gaps(run).await > 0.0).await;
        assert_eq!(before, 1);
        let took = run.recorder.now() - from;
        run.measure("noticed_after_ms", crate::summary::millis(took));
        run.recorder.healed();
        run.recover().await;
    })
    .await;
}

/// How often the first replica's listener missed something, as it says itself.
async fn gaps(run: &Run) -> f64 {
    let url = format!("{}/metrics", run.replicas[0].base());
    let text = run.fleet.world.http.get(url).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("headcount_listener_gaps_total "));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_off_for_the_whole_run() {
    let mut plan = by_poll("listener_off");
    plan.listener = false;
    scenario(plan, async |run: &mut Run| {
        // Who comes late, to a room that its replica has not looked at for a while, must see it as it is.
        for n in 0..24 {
            run.fleet.watch(&format!("late{n}"), n % 4, "diff");
            run.load(Duration::from_millis(250)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_forged() {
    scenario(Plan::new("notify_forged"), async |run: &mut Run| {
        // Somebody listens and never reads, inside a transaction: the queue of notifications cannot be emptied.
        let mut lazy = run.database.connect().await;
        lazy.execute("listen headcount; begin; select 1").await.unwrap();
        run.load(s(1)).await;
        let long = "x".repeat(7000);
        let payloads = [
            "room0:999999",
            "room1:-1",
            "",
            "?",
            "room2",
            "a b c",
            "room0:1 room0:1",
            "*:1",
            "\u{1}:x",
            &long,
        ];
        for n in 0..200 {
            let payload = payloads[n % payloads.len()];
            run.database.execute(&format!("select pg_notify('headcount', '{payload}')")).await;
        }
        run.recover().await;
        lazy.execute("rollback").await.unwrap();
    })
    .await;
}
