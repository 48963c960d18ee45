//! Heartbeats: what they change, what they answer, and when the next one is due.

use serde_json::json;

use crate::support::deployment::{start, start_with, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_touches_presence_and_nothing_else() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    for room in ["a", "b", "c"] {
        ann.join(room).await;
    }
    let state =
        "select (sum(version) + (select count(*) from headcount.events))::bigint from headcount.rooms";
    let (before, xmin) =
        (deployment.value(state).await, "select sum(xmin::text::bigint)::bigint from headcount.rooms");
    let rows_before = deployment.value(xmin).await;
    assert_eq!(ann.beat(json!({"visible": true, "active": true})).await, "alive");
    assert_eq!((deployment.value(state).await, deployment.value(xmin).await), (before, rows_before));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_carries_many_heartbeats_and_answers_each() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let other = ann.tab();
    ann.join("lobby").await;
    let both = json!([{"session": other.session}, {"session": ann.session, "active": true}]);
    let answer = ann.post("/v1/heartbeats", &both).await.ok();
    assert_eq!(answer["sessions"][0]["state"], "gone");
    assert_eq!(answer["sessions"][1]["state"], "alive");
    let many: Vec<_> = (0..101).map(|_| json!({"session": ann.session})).collect();
    assert_eq!(ann.post("/v1/heartbeats", &json!(many)).await.problem(), (400, "invalid_body"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_session_is_told_to_beat_less_often_and_has_a_longer_lease() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let joined = ann.join("lobby").await;
    assert_eq!(joined["lease_ms"], 45_000);
    let near = |value: &serde_json::Value, ms: u64| value.as_u64().unwrap().abs_diff(ms) <= ms / 10;
    assert!(near(&joined["heartbeat_ms"], 15_000), "{joined}");
    let hidden = ann.post("/v1/heartbeats", &ann.with(json!({"visible": false}))).await.ok();
    assert_eq!(hidden["lease_ms"], 150_000);
    assert!(near(&hidden["heartbeat_ms"], 60_000), "{hidden}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_idle_without_activity_and_comes_back_with_it() {
    let mut tuning = tuning();
    tuning.idle_after = std::time::Duration::from_secs(60);
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mut watcher = deployment.user("bob").watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    deployment.execute("update headcount.presence set last_active = last_active - interval '2 min'").await;
    ann.beat(json!({})).await;
    assert_eq!(watcher.until_event("diff").await.data["updated"][0]["status"], "idle");
    ann.beat(json!({"active": true})).await;
    assert_eq!(watcher.until_event("diff").await.data["updated"][0]["status"], "online");
    assert_eq!(deployment.log("lobby").await, ["joined ann", "updated ann", "updated ann"]);
}
