//! **P6** Resumable: `Last-Event-ID` gives exactly what was missed, or one snapshot with its reason.
//!
//! While things break: `tests/faults/checker/streams.rs`.

use serde_json::json;

use crate::support::deployment::{start, start_with, tuning};
use crate::support::watcher::split;

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_resumed_stream_gives_exactly_what_was_missed() {
    let deployment = start().await;
    let (ann, bob, eve) = (deployment.user("ann"), deployment.user("bob"), deployment.user("eve"));
    ann.join("lobby").await;
    let mut watcher = bob.watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    bob.join("lobby").await;
    eve.join("lobby").await;
    eve.leave("lobby").await; // came and went: cancels out
    ann.update("lobby", json!({"state": 1})).await.ok();
    let end = ann.leave("lobby").await;
    let mut resumed = bob.resume("/v1/rooms/lobby/events", watcher).await;
    let first = resumed.next().await.unwrap();
    assert_eq!(first.event, "diff");
    assert_eq!(first.data["cursor"], end["cursor"]);
    assert_eq!(first.data["joined"].as_array().unwrap().len(), 1);
    assert_eq!(first.data["joined"][0]["id"], "bob");
    assert_eq!(first.data["updated"], json!([]));
    assert_eq!(first.data["left"], json!([{"id": "ann", "reason": "left"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_watcher_that_missed_nothing_is_told_so_at_once() {
    let deployment = start().await;
    let cursor = deployment.user("ann").join("lobby").await["cursor"].as_str().unwrap().to_owned();
    let mut resumed = deployment.user("bob").watch_from("lobby", &cursor).await;
    let first = resumed.next().await.unwrap();
    assert_eq!((first.event.as_str(), &first.data), ("sync", &json!({"cursor": cursor, "stale": false})));
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_cursor_that_cannot_be_resumed_gets_one_snapshot_with_its_reason() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let cursor = ann.join("lobby").await["cursor"].as_str().unwrap().to_owned();
    let (epoch, version) = split(&cursor);
    let other_epoch = format!("{}.{version}", "f".repeat(epoch.len()));
    let future = format!("{epoch}.{}", version + 1000);
    for cursor in [other_epoch.as_str(), future.as_str(), "nonsense"] {
        let first = ann.watch_from("lobby", cursor).await.next().await.unwrap();
        assert_eq!((first.event.as_str(), &first.data["reason"]), ("snapshot", &json!("epoch")), "{cursor}");
    }
    for _ in 0..2 {
        ann.leave("lobby").await;
        ann.join("lobby").await;
    }
    deployment.execute("delete from headcount.events where version <= 3").await; // what a trim does
    let first = ann.watch_from("lobby", &cursor).await.next().await.unwrap();
    assert_eq!((first.event.as_str(), &first.data["reason"]), ("snapshot", &json!("too_old")));
    assert_eq!(first.data["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rooms_on_one_stream_resume_together() {
    let deployment = start().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("b").await;
    let path = "/v1/events?rooms=c,b,a";
    let mut watcher = bob.watch_path(path, None).await;
    watcher.until_event("sync").await;
    assert_eq!(watcher.rosters.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    ann.join("a").await;
    watcher.until_members("a", &["ann"]).await;
    let last = watcher.last_id.clone().unwrap();
    assert_eq!(last.split(',').count(), 3);
    ann.leave("b").await;
    let mut resumed = bob.resume(path, watcher).await;
    let first = resumed.next().await.unwrap();
    assert_eq!((first.event.as_str(), &first.data["room"]), ("diff", &json!("b")));
    assert_eq!(first.data["left"][0]["id"], "ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_after_days_gets_exactly_what_was_missed() {
    let mut tuning = tuning();
    tuning.retention *= 30;
    let deployment = start_with(1, tuning).await;
    let cursor = deployment.user("ann").join("lobby").await["cursor"].as_str().unwrap().to_owned();
    deployment.user("bob").join("lobby").await;
    deployment.execute("update headcount.events set at = at - interval '5 days'").await;
    let mut watcher = deployment.user("ann").watch_from("lobby", &cursor).await;
    watcher.rosters.entry("lobby".into()).or_default().insert("ann".into(), json!({"id": "ann"})); // as it was left
    let frame = watcher.next().await.unwrap();
    assert_eq!(frame.event, "diff");
    let joined: Vec<_> =
        frame.data["joined"].as_array().unwrap().iter().map(|member| &member["id"]).collect();
    assert_eq!(joined, ["bob"]);
}
