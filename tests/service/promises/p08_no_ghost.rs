//! **P8** No ghost beyond lease, sweep interval and 1 s.
//!
//! For leases that a room sets: `p7_and_p8_hold_for_leases_that_are_set`, beside this file. While things break:
//! `tests/faults/checker/leases.rs`.

use serde_json::json;

use crate::support::deployment::{start, start_with, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_session_that_stops_beating_is_swept_and_every_watcher_hears_it() {
    let mut tuning = tuning();
    tuning.lease = std::time::Duration::from_millis(500);
    tuning.sweep_interval = std::time::Duration::from_millis(200);
    let deployment = start_with(2, tuning).await;
    let mut here = deployment.user_at(0, "bob").watch("lobby").await;
    let mut there = deployment.user_at(1, "eve").watch("lobby").await;
    let ann = deployment.user("ann");
    ann.join("lobby").await; // and never a heartbeat of anybody
    for watcher in [&mut here, &mut there] {
        watcher.until_members("lobby", &["ann"]).await;
        watcher.until_members("lobby", &[]).await;
        assert_eq!(watcher.heard.last().unwrap().data["left"][0], json!({"id": "ann", "reason": "expired"}));
    }
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann expired"]);
    assert_eq!(ann.beat(json!({})).await, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_no_ghost_after_a_restart() {
    let mut deployment = start().await;
    deployment.user("ann").join("lobby").await;
    deployment.replicas.pop().unwrap().stop().await;
    // Down for an hour: the sweep state is as old as the heartbeats.
    deployment.execute("update headcount.presence set last_seen = last_seen - interval '1 h'").await;
    deployment
        .execute("update headcount.sweep_state set last_sweep_at = last_sweep_at - interval '1 h'")
        .await;
    let mut tuning = tuning();
    tuning.lease = std::time::Duration::from_millis(500);
    deployment.execute("update headcount.presence set lease = interval '500 ms'").await;
    deployment.add(tuning);
    deployment.until("select not exists (select from headcount.presence)").await;
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann expired"]);
}
