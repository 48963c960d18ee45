//! Many rooms in one call: one transaction, and an outcome for each room.

use headcount::auth::{Grant, Rights};
use serde_json::{Value, json};
use sqlx::Connection;

use super::room_settings::set;
use crate::support::deployment::{Client, start, start_with, token, tuning};

/// Each room of an answer with `ok` or its problem's code.
fn outcomes(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let outcome = |room: &Value| text(&room["problem"]["code"]).unwrap_or("ok".into());
    answer["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|room| (text(&room["room"]).unwrap(), outcome(room)))
        .collect()
}

fn expected(outcomes: &[(&str, &str)]) -> Vec<(String, String)> {
    outcomes.iter().map(|(room, outcome)| ((*room).to_owned(), (*outcome).to_owned())).collect()
}

async fn join(client: &Client, rooms: &[&str]) -> Value {
    client.post("/v1/join", &client.with(json!({"rooms": rooms}))).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rooms_are_joined_and_left_by_one_call_each() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut watcher = deployment.user("bob").watch("online").await;
    let joined = join(&ann, &["lobby", "online"]).await;
    assert_eq!(outcomes(&joined), expected(&[("lobby", "ok"), ("online", "ok")]));
    assert_eq!(
        (&joined["rooms"][0]["created"], &joined["rooms"][1]["member"]["id"]),
        (&json!(true), &json!("ann"))
    );
    watcher.until_members("online", &["ann"]).await;
    assert_eq!(
        join(&ann, &["lobby", "kitchen"]).await["rooms"][0]["created"],
        false,
        "a repeated join is a retry"
    );

    let left = ann.post("/v1/leave", &ann.with(json!({}))).await.ok();
    assert_eq!(outcomes(&left), expected(&[("kitchen", "ok"), ("lobby", "ok"), ("online", "ok")]));
    watcher.until_members("online", &[]).await;
    for room in ["kitchen", "lobby", "online"] {
        assert_eq!(deployment.log(room).await, ["joined ann", "left ann left"]);
    }
    assert_eq!(ann.beat(json!({})).await, "gone");
    let again = ann.post("/v1/leave", &ann.with(json!({}))).await.ok();
    assert!(outcomes(&again).is_empty(), "leaving is idempotent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_refused_leaves_the_others_joined() {
    let deployment = start().await;
    let grants = ["lobby", "full", "kitchen"].map(|room| Grant::WatchAndJoin(room.into()));
    let ann = deployment.caller_at(0, token("ann", Rights(Some(grants.into()))));
    set(&deployment, "full", json!({"members_max": 1})).await;
    deployment.user("bob").join("full").await;
    let joined = join(&ann, &["lobby", "secret", "no room", "full", "kitchen"]).await;
    let outcome = [
        ("lobby", "ok"),
        ("secret", "room_not_found"),
        ("no room", "invalid_room"),
        ("full", "room_full"),
        ("kitchen", "ok"),
    ];
    assert_eq!(outcomes(&joined), expected(&outcome));
    assert_eq!(deployment.log("kitchen").await, ["joined ann"]);
    let left = ann.post("/v1/leave", &ann.with(json!({"rooms": ["lobby", "no room"]}))).await.ok();
    assert_eq!(outcomes(&left), expected(&[("lobby", "ok"), ("no room", "invalid_room")]));
    assert_eq!(deployment.log("kitchen").await, ["joined ann"], "it was not named");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_locked_does_not_stop_the_others() {
    let deployment = start().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    bob.join("held").await;
    let mut holder = deployment.database.connect().await;
    let mut transaction = holder.begin().await.unwrap();
    let lock = "select from headcount.rooms where room_id = 'held' for update";
    sqlx::query(lock).execute(&mut *transaction).await.unwrap();
    let joined = join(&ann, &["held", "lobby"]).await;
    assert_eq!(outcomes(&joined), expected(&[("held", "room_busy"), ("lobby", "ok")]));
    transaction.rollback().await.unwrap();
    assert_eq!(outcomes(&join(&ann, &["held"]).await), expected(&[("held", "ok")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leaves_for_somebody_else() {
    let deployment = start().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    let theirs = json!({"session": ann.session});
    assert!(outcomes(&bob.post("/v1/leave", &theirs).await.ok()).is_empty());
    let named = json!({"session": ann.session, "rooms": ["lobby"]});
    let left = bob.post("/v1/leave", &named).await.ok();
    assert_eq!(outcomes(&left), expected(&[("lobby", "session_not_found")]));
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_page_leaves_all_its_rooms_by_one_beacon() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let rooms: Vec<String> = (0..100).map(|n| format!("room:{n}")).collect();
    join(&ann, &rooms.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let beacon = json!({"token": ann.credential, "session": ann.session}).to_string();
    let sent =
        reqwest::Client::new().post(format!("{}/v1/leave", ann.base)).header("content-type", "text/plain");
    let left: Value = sent.body(beacon).send().await.unwrap().json().await.unwrap();
    assert_eq!(left["rooms"].as_array().unwrap().len(), 100);
    assert_eq!(deployment.value("select count(*) from headcount.memberships").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_named_twice_is_answered_once_and_none_or_too_many_are_refused() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let many: Vec<String> = (0..101).map(|n| format!("room:{n}")).collect();
    assert_eq!(outcomes(&join(&ann, &["b", "a", "b"]).await), expected(&[("b", "ok"), ("a", "ok")]));
    for rooms in [json!([]), json!(many)] {
        for path in ["/v1/join", "/v1/leave"] {
            let answer = ann.post(path, &ann.with(json!({"rooms": rooms}))).await;
            assert_eq!(answer.problem(), (400, "invalid_body"), "{path} {rooms}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rooms_are_charged_as_so_many_events() {
    let mut tuning = tuning();
    tuning.limits.events_per_user = 1;
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    let rooms: Vec<String> = (0..100).map(|n| format!("room:{n}")).collect();
    join(&ann, &rooms.iter().map(String::as_str).collect::<Vec<_>>()).await; // the budget may be overdrawn once
    let again = ann.post("/v1/join", &ann.with(json!({"rooms": ["lobby"]}))).await;
    assert_eq!(again.problem(), (429, "too_many_events"));
    let left = ann.post("/v1/leave", &ann.with(json!({}))).await.ok();
    assert_eq!(outcomes(&left).len(), 100, "a leave is never refused for it");
}
