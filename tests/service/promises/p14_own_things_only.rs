//! **P14** Own things only: the user is who the token says; unknown and forbidden rooms look the same.
//!
//! Every caller at every call: `security/access`.

use headcount::auth::{Grant, Right, Rights};
use serde_json::json;

use crate::support::deployment::{start, token};

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
