//! Tickets: what a browser's own `EventSource` watches with.

use serde_json::{Value, json};

use crate::support::deployment::{Client, start_with, token, tuning};
use headcount::auth::{Grant, Rights};

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_watches_its_rooms_on_any_replica_and_does_nothing_else() {
    let deployment = start_with(2, tuning()).await;
    let ann = deployment.user("ann");
    let answer = ann.post("/v1/tickets", &json!({"rooms": ["lobby", "kitchen"]})).await.ok();
    let ticket = answer["ticket"].as_str().unwrap();
    let anybody = deployment.caller_at(1, String::new());
    let get = |path: String| anybody.http.get(format!("{}{path}", anybody.base)).send();
    let opened = get(format!("/v1/events?rooms=lobby,kitchen&ticket={ticket}")).await.unwrap();
    let mut watcher = crate::support::watcher::Watcher::new(opened);
    watcher.until_event("sync").await;
    ann.join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    assert_eq!(get(format!("/v1/rooms/cellar/events?ticket={ticket}")).await.unwrap().status(), 404);
    assert_eq!(get(format!("/v1/rooms/lobby?ticket={ticket}")).await.unwrap().status(), 401);
    let as_token = deployment.caller_at(0, ticket.to_owned());
    assert_eq!(as_token.join_with("lobby", json!({})).await.problem(), (401, "invalid_token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_an_address_is_refused() {
    let deployment = start_with(1, tuning()).await;
    let ann = deployment.user("ann");
    let path = format!("/v1/rooms/lobby/events?ticket={}", ann.credential);
    assert_eq!(ann.get(&path).await.problem(), (400, "token_in_url"));
    let path = format!("/v1/rooms/lobby/events?token={}", ann.credential);
    assert_eq!(ann.get(&path).await.problem(), (400, "invalid_query"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_got_for_rooms_one_may_watch_only() {
    let deployment = start_with(1, tuning()).await;
    let ann = deployment.caller_at(0, token("ann", Rights(Some(vec![Grant::WatchAndJoin("lobby".into())]))));
    ann.post("/v1/tickets", &json!({"rooms": ["lobby"]})).await.ok();
    assert_eq!(
        ann.post("/v1/tickets", &json!({"rooms": ["lobby", "x"]})).await.problem(),
        (404, "room_not_found")
    );
    assert_eq!(ann.post("/v1/tickets", &json!({"rooms": []})).await.problem(), (400, "invalid_body"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_a_server_is_a_users_or_nobodys_and_shares_nothing_with_a_user_of_any_name() {
    let mut tuning = tuning();
    tuning.limits.streams_per_user = 1;
    let deployment = start_with(1, tuning).await;
    let (server, dash) = (deployment.server(), deployment.user("-"));
    let path = async |caller: &Client, body: Value| {
        let ticket = caller.post("/v1/tickets", &body).await.ok()["ticket"].clone();
        format!("/v1/rooms/lobby/events?ticket={}", ticket.as_str().unwrap())
    };
    dash.join_with("lobby", json!({"invisible": true})).await.ok();
    let nobody = deployment.caller_at(0, String::new());
    let nobodys = path(&server, json!({"rooms": ["lobby"]})).await;
    let mut watchers = Vec::new();
    for _ in 0..2 {
        let mut watcher = nobody.watch_path(&nobodys, None).await;
        assert_eq!(watcher.until_event("snapshot").await.data["members"], json!([]), "`-` is not seen");
        watchers.push(watcher);
    }
    watchers.push(dash.watch("lobby").await);
    let anns = path(&server, json!({"rooms": ["lobby"], "user": "ann"})).await;
    watchers.push(nobody.watch_path(&anns, None).await);
    assert_eq!(
        deployment.user("ann").get("/v1/rooms/lobby/events").await.problem(),
        (429, "too_many_streams")
    );
    let refused = dash.post("/v1/tickets", &json!({"rooms": ["lobby"], "user": "ann"})).await;
    assert_eq!(refused.problem(), (403, "user_not_allowed"));
}
