//! **P3** One join and one leave per member, whatever the number of tabs, retries and replicas.
//!
//! In `tests/model`, `random_histories_agree_with_a_plain_model`. While things break:
//! `tests/faults/checker/log.rs` and `causes.rs`.

use serde_json::json;

use crate::support::deployment::{start, start_with, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn p3_closing_one_tab_of_two_emits_nothing() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let other_tab = ann.tab();
    assert_eq!(ann.join("lobby").await["created"], true);
    assert_eq!(other_tab.join("lobby").await["created"], false);
    ann.leave("lobby").await;
    let roster = deployment.user("bob").roster("lobby").await;
    assert_eq!((&roster["count"], &roster["members"][0]["sessions"]), (&json!(1), &json!(1)));
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
    other_tab.leave("lobby").await;
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann left"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_reload_emits_nothing() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    ann.leave_with("lobby", json!({"grace": true})).await.ok();
    ann.join("lobby").await; // the page is back
    deployment.execute("update headcount.memberships set leaving_at = leaving_at - interval '1 min'").await;
    deployment.swept().await;
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
    assert_eq!(ann.beat(json!({})).await, "alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_reload_into_a_new_session_emits_nothing() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    ann.leave_with("lobby", json!({"grace": true})).await.ok();
    ann.tab().join("lobby").await;
    deployment.execute("update headcount.memberships set leaving_at = leaving_at - interval '1 min'").await;
    deployment.until("select count(*) = 1 from headcount.presence").await; // swept
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_page_is_gone_after_its_grace() {
    let mut tuning = tuning();
    tuning.leave_grace = std::time::Duration::from_millis(200);
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    let mut watcher = deployment.user("bob").watch("lobby").await;
    ann.join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    let beacon = json!({"session": ann.session, "grace": true, "token": ann.credential}).to_string();
    let path = format!("{}/v1/rooms/lobby/leave", ann.base);
    let sent = ann
        .http
        .post(path)
        .header("content-type", "text/plain;charset=UTF-8")
        .body(beacon)
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 200);
    watcher.until_members("lobby", &[]).await;
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann left"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_many_tabs_at_once_on_two_replicas_are_one_join_and_one_leave() {
    let deployment = start_with(2, tuning()).await;
    let tabs: Vec<_> = (0..40).map(|n| deployment.user_at(n % 2, "ann")).collect();
    let created: Vec<_> = futures_util::future::join_all(tabs.iter().map(|tab| tab.join("lobby"))).await;
    assert_eq!(created.iter().filter(|answer| answer["created"] == true).count(), 1);
    futures_util::future::join_all(tabs.iter().map(|tab| tab.leave("lobby"))).await;
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann left"]);
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
