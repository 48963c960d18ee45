//! **P9** No resurrection: a heartbeat never creates a session, and a late request never undoes a newer one.
//!
//! While things break: `tests/faults/checker/leases.rs`.

use serde_json::json;

use crate::support::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_heartbeat_never_creates_a_session() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    assert_eq!(ann.beat(json!({})).await, "gone");
    ann.join("lobby").await;
    assert_eq!(ann.beat(json!({})).await, "alive");
    ann.leave("lobby").await;
    assert_eq!(ann.beat(json!({})).await, "gone");
    assert_eq!(deployment.value("select count(*) from headcount.presence").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_late_request_never_undoes_a_newer_one() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join_with("lobby", json!({"seq": 1})).await.ok();
    ann.leave_with("lobby", json!({"seq": 3})).await.ok();
    let late = ann.join_with("lobby", json!({"seq": 2})).await.ok();
    assert_eq!((&late["created"], &late["member"]), (&json!(false), &json!(null)));
    assert_eq!(ann.roster("lobby").await["count"], 0);
    ann.join_with("lobby", json!({"seq": 5})).await.ok();
    ann.leave_with("lobby", json!({"seq": 4})).await.ok();
    assert_eq!(ann.roster("lobby").await["count"], 1);
    let log = deployment.log("lobby").await;
    assert_eq!(log, ["joined ann", "left ann left", "joined ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_heartbeat_does_not_undo_a_newer_one() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    ann.beat(json!({"visible": false, "seq": 7})).await;
    assert_eq!(ann.beat(json!({"visible": true, "seq": 6})).await, "alive");
    assert_eq!(deployment.value("select count(*) from headcount.presence where not visible").await, 1);
}
