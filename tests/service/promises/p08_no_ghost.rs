//! P7 and P8: nobody leaves who still beats, nobody stays who does not.

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

#[tokio::test(flavor = "multi_thread")]
async fn p7_after_an_outage_nobody_expires_for_one_full_lease() {
    let mut deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    deployment.replicas.pop().unwrap().stop().await;
    deployment.execute("update headcount.presence set last_seen = last_seen - interval '1 h'").await;
    deployment
        .execute("update headcount.sweep_state set last_sweep_at = last_sweep_at - interval '1 h'")
        .await;
    deployment.add(tuning());
    let swept = "select last_sweep_at > clock_timestamp() - interval '1 min' and recovering \
                 from headcount.sweep_state";
    deployment.until(swept).await;
    let again = crate::support::deployment::Client { session: ann.session, ..deployment.user("ann") };
    assert_eq!(again.beat(json!({})).await, "alive");
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_session_that_beats_outlives_many_leases() {
    let mut tuning = tuning();
    tuning.lease = std::time::Duration::from_secs(3);
    tuning.sweep_interval = std::time::Duration::from_millis(100);
    (tuning.limits.heartbeats_per_user, tuning.limits.heartbeats_per_session) = (0, 0); // it beats as fast as it can
    let deployment = start_with(1, tuning).await;
    let (ann, dead) = (deployment.user("ann"), deployment.user("dead"));
    ann.join("lobby").await;
    for _ in 0..3 {
        dead.join("lobby").await;
        // Beats until the other one, who does not, has lived out a lease.
        while dead.roster("lobby").await["count"] == 2 {
            assert_eq!(ann.beat(json!({})).await, "alive");
        }
    }
    let log = deployment.log("lobby").await;
    assert_eq!(log.iter().filter(|line| line.ends_with("ann")).count(), 1, "{log:?}");
    assert_eq!(log.iter().filter(|line| *line == "left dead expired").count(), 3, "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeping_one_of_two_tabs_emits_nothing() {
    let deployment = start().await;
    deployment.settle().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    deployment.execute("update headcount.presence set last_seen = last_seen - interval '1 h'").await;
    ann.tab().join("lobby").await;
    deployment.until("select count(*) = 1 from headcount.presence").await;
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}
