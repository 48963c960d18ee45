//! P5 and P6: ordered, resumable streams.

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
async fn a_new_lineage_is_announced_by_a_snapshot_to_those_who_watch() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mut watcher = deployment.user("bob").watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    deployment.execute("select headcount.new_lineage()").await;
    let frame = watcher.until_event("snapshot").await;
    assert_eq!(frame.data["reason"], "epoch");
    ann.leave("lobby").await;
    watcher.until_members("lobby", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_mode_sends_the_whole_list_and_count_mode_the_count() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut list = ann.watch_path("/v1/rooms/lobby/events?mode=list", None).await;
    let mut count = ann.watch_path("/v1/rooms/lobby/events?mode=count", None).await;
    assert_eq!(list.next().await.unwrap().data["members"], json!([]));
    assert_eq!(count.next().await.unwrap().data["count"], 0);
    ann.join("lobby").await;
    let frame = list.next().await.unwrap();
    assert_eq!((frame.event.as_str(), &frame.data["members"][0]["id"]), ("presence", &json!("ann")));
    let frame = count.next().await.unwrap();
    assert_eq!((frame.event.as_str(), &frame.data["count"]), ("count", &json!(1)));
    assert!(frame.data.get("members").is_none());
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
async fn every_stream_begins_with_a_spread_retry() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut response = ann.request(reqwest::Method::GET, "/v1/rooms/lobby/events").send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let chunk = response.chunk().await.unwrap().unwrap();
    let text = String::from_utf8(chunk.to_vec()).unwrap();
    let retry: u64 = text.strip_prefix("retry: ").unwrap().split('\n').next().unwrap().parse().unwrap();
    assert!((1000..=5000).contains(&retry), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_draining_replica_says_bye_and_emits_nothing() {
    let mut deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mut watcher = ann.watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    let stopping = tokio::spawn(deployment.replicas.pop().unwrap().stop());
    let bye = watcher.until_event("bye").await;
    assert_eq!(bye.data["reason"], "drain");
    assert!(watcher.next().await.is_none());
    stopping.await.unwrap();
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_greatest_age_and_resumes() {
    let mut tuning = tuning();
    tuning.max_stream_age = std::time::Duration::from_millis(100);
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mut watcher = ann.watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    ann.update("lobby", json!({"state": 1})).await.ok(); // wakes it; without, it would be woken within 15 s
    while watcher.next().await.is_some() {}
    assert_eq!(watcher.heard.last().unwrap().data["reason"], "max_age");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_of_the_line_keeps_its_timetable() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut watcher = ann.watch_path("/v1/diagnostics/stream?silence_ms=300", None).await;
    let mut sent = Vec::new();
    while let Some(frame) = watcher.next().await {
        sent.push((frame.event, frame.data["n"].as_u64().unwrap(), frame.data["sent_ms"].as_u64().unwrap()));
    }
    let names: Vec<&str> = sent.iter().map(|(event, ..)| event.as_str()).collect();
    assert_eq!(names, ["tick", "tick", "tick", "tick", "tick", "end"]);
    for ((_, n, at), due) in sent.iter().zip([0, 250, 500, 750, 1000, 1300]) {
        assert!(*at >= due, "{n} was sent at {at}, before {due}");
    }
    let nobody = deployment.caller_at(0, "nonsense".to_owned());
    assert_eq!(nobody.get("/v1/diagnostics/stream").await.problem(), (401, "invalid_token"));
    let long = ann.get("/v1/diagnostics/stream?silence_ms=60001").await;
    assert_eq!(long.problem(), (400, "invalid_query"));
}
