//! What the claim `rooms` allows: four separate rights, each in the rooms it names, and nothing by default.

use headcount::auth::{Grant, Right, Rights};
use serde_json::{Value, json};

use crate::support::deployment::{Client, Deployment, keys, secret, start, start_keyed, token, tuning};

/// A user with these rights in the rooms of a pattern.
fn with(deployment: &Deployment, user: &str, pattern: &str, can: &[Right]) -> Client {
    let grant = Grant::Some { room: pattern.to_owned(), can: can.to_vec() };
    deployment.caller_at(0, token(user, Rights(Some(vec![grant]))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_the_claim_allows_nothing_unless_the_deployment_says_otherwise() {
    let deployment = start().await;
    let ann = deployment.caller_at(0, token("ann", Rights::default()));
    assert_eq!(ann.join_with("lobby", json!({})).await.problem(), (404, "room_not_found"));
    assert_eq!(ann.get("/v1/rooms/lobby").await.problem(), (404, "room_not_found"));
    assert_eq!(ann.get("/v1/rooms").await.problem(), (403, "list_not_allowed"));
    let default = Rights(Some(vec![Grant::WatchAndJoin("public:*".into())]));
    let deployment = start_keyed(tuning(), keys(secret(), default)).await;
    let ann = deployment.caller_at(0, token("ann", Rights::default()));
    ann.join("public:1").await;
    assert_eq!(ann.join_with("lobby", json!({})).await.problem(), (404, "room_not_found"));
    assert_eq!(ann.get("/v1/rooms").await.problem(), (403, "list_not_allowed"));
    let limited = with(&deployment, "bob", "lobby", &[Right::Join]);
    assert_eq!(limited.join_with("public:1", json!({})).await.problem(), (404, "room_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_the_rooms_one_may_list_and_no_others() {
    let deployment = start().await;
    for room in ["a", "team:1", "team:2", "team:3", "x", "y:1"] {
        deployment.user("bob").join(room).await;
    }
    let rooms = async |client: &Client, query: &str| {
        let page = client.get(&format!("/v1/rooms{query}")).await.ok();
        let keys =
            page["rooms"].as_array().unwrap().iter().map(|room| room["room"].as_str().unwrap().to_owned());
        (keys.collect::<Vec<_>>().join(" "), page["next"].as_str().map(str::to_owned))
    };
    let listed = |keys: &str| (keys.to_owned(), None);
    let ann = with(&deployment, "ann", "team:*", &[Right::List]);
    assert_eq!(rooms(&ann, "").await, listed("team:1 team:2 team:3"));
    assert_eq!(rooms(&ann, "?limit=2").await, ("team:1 team:2".into(), Some("team:2".into())));
    assert_eq!(rooms(&ann, "?limit=2&after=team:2").await, listed("team:3"));
    assert_eq!(rooms(&ann, "?prefix=t").await, listed("team:1 team:2 team:3"));
    assert_eq!(rooms(&ann, "?prefix=team:3").await, listed("team:3"));
    assert_eq!(rooms(&ann, "?prefix=x").await, listed("")); // as if nobody were there
    let some = |room: &str, can: Vec<Right>| Grant::Some { room: room.into(), can };
    let grants = vec![
        some("y:*", vec![Right::List]),
        some("team:1", vec![Right::List]),
        some("team:*", vec![Right::Watch]),
        some("nul\0*", vec![Right::List]),
        Grant::WatchAndJoin("x".into()),
    ];
    let eve = deployment.caller_at(0, token("eve", Rights(Some(grants))));
    assert_eq!(rooms(&eve, "").await, listed("team:1 y:1"));
    assert_eq!(rooms(&deployment.server(), "?prefix=team:").await, listed("team:1 team:2 team:3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_of_a_room_removes_members_there_and_nowhere_else() {
    let deployment = start().await;
    let (ann, bob) = (with(&deployment, "ann", "lobby", &[Right::Admin]), deployment.user("bob"));
    bob.join("lobby").await;
    bob.join("kitchen").await;
    let kick = async |client: &Client, room: &str| {
        client.post(&format!("/v1/rooms/{room}/kick"), &json!({"user": "bob"})).await
    };
    assert_eq!(kick(&ann, "kitchen").await.problem(), (404, "room_not_found"));
    assert_eq!(kick(&bob, "lobby").await.problem(), (404, "room_not_found"));
    kick(&ann, "lobby").await.ok();
    assert_eq!(deployment.log("lobby").await, ["joined bob", "left bob kicked"]);
    assert_eq!(deployment.log("kitchen").await, ["joined bob"]);
    assert_eq!(ann.get("/v1/rooms/lobby").await.problem(), (404, "room_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_a_new_token_does_not_allow_is_left_at_the_next_heartbeat() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    ann.join("secret").await;
    assert_eq!(ann.beat(json!({})).await, "alive");
    let less = Client { session: ann.session, ..with(&deployment, "ann", "lobby", &[Right::Join]) };
    let beat = async |client: &Client| {
        let answer = client.post("/v1/heartbeats", &client.with(json!({}))).await.ok();
        (answer["sessions"][0]["state"].clone(), answer["sessions"][0]["not_allowed"].clone())
    };
    assert_eq!(beat(&less).await, (json!("alive"), json!(["secret"])));
    assert_eq!(deployment.log("secret").await, ["joined ann", "left ann left"]);
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
    assert_eq!(beat(&less).await, (json!("alive"), Value::Null));

    // Joined with a token that allows more: the one that allows less is checked again.
    ann.join("secret").await;
    assert_eq!(beat(&less).await, (json!("alive"), json!(["secret"])));
    // The server key has no rights that could end.
    ann.join("secret").await;
    assert_eq!(
        beat(&Client { session: ann.session, ..deployment.server() }).await,
        (json!("alive"), Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_a_token_does_not_allow_can_be_left_and_tells_nothing() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("secret").await;
    deployment.user("bob").join("other").await;
    let less = Client { session: ann.session, ..with(&deployment, "ann", "lobby", &[Right::Join]) };
    less.leave("secret").await;
    assert_eq!(deployment.log("secret").await, ["joined ann", "left ann left"]);
    // Where the session is not, there is no such room, whether anybody is there or not.
    for room in ["secret", "other", "nowhere"] {
        assert_eq!(less.leave_with(room, json!({})).await.problem(), (404, "room_not_found"));
        let many = less.post("/v1/leave", &less.with(json!({"rooms": [room]}))).await.ok();
        assert_eq!(many["rooms"][0]["cursor"], Value::Null);
        assert_eq!(many["rooms"][0]["problem"]["code"], "room_not_found");
    }
}
