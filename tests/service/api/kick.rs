//! A kick ends a user's sessions in a room, and each of them is told of it.

use serde_json::{Value, json};

use crate::support::deployment::{Client, start, start_with, tuning};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_gone_hears_which_rooms_it_was_kicked_out_of() {
    let deployment = start().await;
    let (ann, bob, server) = (deployment.user("ann"), deployment.user("bob"), deployment.server());
    let kicked = async |caller: &Client| {
        let answer = caller.post("/v1/heartbeats", &json!({"session": ann.session})).await.ok();
        (answer["sessions"][0]["state"].clone(), answer["sessions"][0]["kicked"].clone())
    };
    let kick = async |room: &str| {
        server.post(&format!("/v1/rooms/{room}/kick"), &json!({"user": "ann"})).await.ok();
    };
    for room in ["lobby", "online", "team:1"] {
        ann.join(room).await;
    }
    kick("team:1").await;
    kick("lobby").await;
    assert_eq!(kicked(&ann).await, (json!("alive"), Value::Null), "it is in another room");
    ann.leave("online").await;
    assert_eq!(kicked(&ann).await, (json!("gone"), json!(["lobby", "team:1"])));
    assert_eq!(kicked(&server).await, (json!("gone"), json!(["lobby", "team:1"])));
    assert_eq!(kicked(&bob).await, (json!("gone"), Value::Null), "somebody else's is unknown");

    // Joined again and left: that is no longer what happened last.
    ann.join("lobby").await;
    ann.leave("lobby").await;
    assert_eq!(kicked(&ann).await, (json!("gone"), json!(["team:1"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_after_a_kick_and_a_new_join_is_no_kick() {
    let deployment = start_with(1, tuning()).await;
    deployment.settle().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    deployment.server().post("/v1/rooms/lobby/kick", &json!({"user": "ann"})).await.ok();
    ann.join("lobby").await;
    deployment.execute("update headcount.presence set last_seen = last_seen - interval '1 hour'").await;
    deployment.until("select not exists (select from headcount.presence)").await;
    let answer = ann.post("/v1/heartbeats", &ann.with(json!({}))).await.ok();
    assert_eq!(answer["sessions"][0], json!({"session": ann.session, "state": "gone"}));
}
