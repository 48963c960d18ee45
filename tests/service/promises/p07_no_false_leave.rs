//! **P7** No false leave while heartbeats are answered within the lease; after an outage nobody expires for one lease.
//!
//! In `tests/sql`, `a_heartbeat_during_a_sweep_wins`. While things break: `tests/faults/checker/leases.rs`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::room_settings::set;
use crate::support::deployment::{start, start_with, tuning};

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
async fn p7_and_p8_hold_for_leases_that_are_set() {
    let deployment = start().await;
    set(&deployment, "quick:*", json!({"lease_ms": 3000})).await;
    set(&deployment, "slow", json!({"lease_ms": 600_000})).await;
    deployment.settle().await;
    let (ann, bob, cat) = (deployment.user("ann"), deployment.user("bob"), deployment.user("cat"));
    bob.join("slow").await;
    cat.join("lobby").await;
    let silent_since = Instant::now();
    ann.join("quick:1").await;
    // As long as others live without a heartbeat, and longer than they would.
    deployment
        .execute(
            "update headcount.presence set last_seen = last_seen - interval '3 min' where user_id = 'bob'",
        )
        .await;
    deployment.until("select not exists (select from headcount.memberships where room_id = 'quick:1')").await;
    assert!(silent_since.elapsed() >= Duration::from_secs(3), "{:?}", silent_since.elapsed());
    // 3 + 1 + 1, and load; without the setting it would be more than 45.
    assert!(silent_since.elapsed() < Duration::from_secs(40), "{:?}", silent_since.elapsed());
    assert_eq!(deployment.log("quick:1").await, ["joined ann", "left ann expired"]);
    deployment.swept().await;
    assert_eq!(bob.beat(json!({})).await, "alive");
    assert_eq!(cat.beat(json!({})).await, "alive");
}
