//! P3: one join, one leave, whatever the number of tabs and retries. And who may say what about whom.

use headcount::auth::{Grant, Right, Rights};
use serde_json::json;

use crate::support::deployment::{start, start_with, token, tuning};

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
async fn an_update_is_one_updated_and_shows_the_most_present_session() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let phone = ann.tab();
    ann.join("lobby").await;
    phone.join_with("lobby", json!({"status": "idle"})).await.ok();
    let answer = ann.update("lobby", json!({"status": "dnd", "state": {"typing": true}})).await.ok();
    assert_eq!(
        (&answer["member"]["status"], &answer["member"]["state"]),
        (&json!("dnd"), &json!({"typing": true}))
    );
    ann.update("lobby", json!({"status": "dnd"})).await.ok(); // shows nothing new
    assert_eq!(deployment.log("lobby").await, ["joined ann", "updated ann"]);
    ann.leave("lobby").await;
    let roster = phone.roster("lobby").await;
    assert_eq!(roster["members"][0]["status"], "idle");
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
async fn p14_a_session_is_its_first_users_and_anothers_looks_unknown() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mallory = crate::support::deployment::Client { session: ann.session, ..deployment.user("mallory") };
    let not_found = (404, "session_not_found");
    assert_eq!(mallory.join_with("lobby", json!({})).await.problem(), not_found);
    assert_eq!(mallory.leave_with("lobby", json!({})).await.problem(), not_found);
    assert_eq!(mallory.update("lobby", json!({"status": "dnd"})).await.problem(), not_found);
    assert_eq!(mallory.beat(json!({})).await, "gone");
    assert_eq!(deployment.user("eve").update("lobby", json!({})).await.problem(), not_found);
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_anothers_heartbeat_neither_renews_a_lease_nor_learns_of_the_session() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mallory = crate::support::deployment::Client { session: ann.session, ..deployment.user("mallory") };
    deployment.execute("update headcount.presence set last_seen = last_seen - interval '30 s'").await;
    assert_eq!(mallory.beat(json!({})).await, "gone");
    let old = "select count(*) from headcount.presence where last_seen < clock_timestamp() - interval '20 s'";
    assert_eq!(deployment.value(old).await, 1);
    // In one batch with the owner's.
    let beats = (0..40).map(|n| if n % 2 == 0 { ann.clone() } else { mallory.clone() });
    let answers =
        futures_util::future::join_all(beats.map(async |client| client.beat(json!({})).await)).await;
    let expected: Vec<_> = (0..40).map(|n| if n % 2 == 0 { "alive" } else { "gone" }).collect();
    assert_eq!(answers, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_only_the_server_key_names_the_user() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    assert_eq!(ann.join_with("lobby", json!({"user": "bob"})).await.problem(), (403, "user_not_allowed"));
    assert_eq!(server.join_with("lobby", json!({})).await.problem(), (400, "user_required"));
    server.join_with("lobby", json!({"user": "bob"})).await.ok();
    assert_eq!(server.beat(json!({})).await, "alive");
    server.leave_with("lobby", json!({"user": "bob"})).await.ok();
    assert_eq!(deployment.log("lobby").await, ["joined bob", "left bob left"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_watching_and_joining_are_separate_and_a_forbidden_room_looks_unknown() {
    let deployment = start().await;
    deployment.user("bob").join("secret").await;
    let grants = vec![
        Grant::Some { room: "seen".into(), can: vec![Right::Watch] },
        Grant::Some { room: "team:*".into(), can: vec![Right::Join] },
    ];
    let ann = deployment.caller_at(0, token("ann", Rights(Some(grants))));
    let hidden = (404, "room_not_found");
    assert_eq!(ann.get("/v1/rooms/seen").await.status, 200);
    assert_eq!(ann.join_with("seen", json!({})).await.problem(), hidden);
    ann.join("team:1").await;
    assert_eq!(ann.get("/v1/rooms/team:1").await.problem(), hidden);
    assert_eq!(ann.get("/v1/rooms/team:1/events").await.problem(), hidden);
    assert_eq!(ann.get("/v1/events?rooms=seen,team:1").await.problem(), hidden);
    for room in ["secret", "never-heard-of"] {
        assert_eq!(ann.get(&format!("/v1/rooms/{room}")).await.body, ann.get("/v1/rooms/other").await.body);
        assert_eq!(ann.join_with(room, json!({})).await.problem(), hidden);
    }
    let bob = ann.get("/v1/users/bob/presence").await.ok();
    assert_eq!((&bob["online"], &bob["rooms"]), (&json!(false), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kick_ends_all_sessions_of_a_user_in_the_room() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    ann.tab().join("lobby").await;
    ann.join("kitchen").await;
    assert_eq!(
        ann.post("/v1/rooms/lobby/kick", &json!({"user": "ann"})).await.problem(),
        (404, "room_not_found")
    );
    deployment.server().post("/v1/rooms/lobby/kick", &json!({"user": "ann"})).await.ok();
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann kicked"]);
    assert_eq!(deployment.log("kitchen").await, ["joined ann"]);
    assert_eq!(ann.beat(json!({})).await, "alive");
}
