//! Profiles, and where users are.

use reqwest::Method;
use serde_json::json;

use crate::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn changing_a_profile_is_an_update_in_every_room_of_the_user() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    ann.join("a").await;
    ann.join("b").await;
    let profile = json!({"name": "Ann B.", "avatar_url": "https://example.org/a.png"});
    let user = server.send(Method::PUT, "/v1/users/ann", &profile).await.ok();
    assert_eq!(user, json!({"id": "ann", "name": "Ann B.", "avatar_url": "https://example.org/a.png"}));
    server.send(Method::PUT, "/v1/users/ann", &profile).await.ok(); // nothing new
    for room in ["a", "b"] {
        assert_eq!(deployment.log(room).await, ["joined ann", "updated ann"]);
        assert_eq!(ann.roster(room).await["members"][0]["name"], "Ann B.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_name_becomes_the_profile_at_a_join() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    deployment.server().send(Method::PUT, "/v1/users/ann", &json!({"name": "Old"})).await.ok();
    assert_eq!(ann.join("lobby").await["member"]["name"], "The ann");
    assert_eq!(ann.get("/v1/users/ann").await.ok()["name"], "The ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_set_in_bulk_and_only_by_those_who_may() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    let users: Vec<_> =
        (0..1000).map(|n| json!({"id": format!("u{n}"), "name": "N", "avatar_url": null})).collect();
    assert_eq!(
        server.send(Method::PUT, "/v1/users", &json!(users)).await.ok().as_array().unwrap().len(),
        1000
    );
    assert_eq!(ann.send(Method::PUT, "/v1/users", &json!(users)).await.problem(), (403, "server_only"));
    assert_eq!(
        ann.send(Method::PUT, "/v1/users/u1", &json!({"name": "x"})).await.problem(),
        (403, "server_only")
    );
    assert_eq!(ann.send(Method::PUT, "/v1/users/ann", &json!({"name": "A"})).await.ok()["name"], "A");
    assert_eq!(ann.get("/v1/users/nobody").await.problem(), (404, "user_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_tells_where_users_are_and_when_they_were_last_seen() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    ann.join("a").await;
    ann.join_with("b", json!({"status": "dnd"})).await.ok();
    let found = server.post("/v1/users/presence", &json!({"ids": ["bob", "ann"]})).await.ok();
    assert_eq!(
        found["users"][0],
        json!({"id": "bob", "online": false, "status": null, "rooms": [], "last_seen": null})
    );
    assert_eq!(found["users"][1]["rooms"], json!(["a", "b"]));
    assert_eq!(found["users"][1]["status"], "online");
    assert!(found["users"][1]["last_seen"].is_string());
    ann.leave("a").await;
    ann.leave("b").await;
    let gone = server.get("/v1/users/ann/presence").await.ok();
    assert_eq!((&gone["online"], &gone["status"]), (&json!(false), &json!(null)));
    assert!(gone["last_seen"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_a_user_ends_their_presence_and_leaves_nothing_of_them() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    ann.join_with("lobby", json!({"state": {"phone": "555"}})).await.ok();
    assert_eq!(server.request(Method::DELETE, "/v1/users/ann").send().await.unwrap().status(), 204);
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann left"]);
    assert_eq!(deployment.value("select count(member) from headcount.events").await, 0);
    assert_eq!(server.get("/v1/users/ann").await.problem(), (404, "user_not_found"));
    assert_eq!(ann.beat(json!({})).await, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_lists_occupied_rooms_by_prefix_and_page() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    for room in ["team:1", "team:2", "team:3", "x"] {
        ann.join(room).await;
    }
    ann.leave("team:2").await;
    let page = server.get("/v1/rooms?prefix=team:&limit=1").await.ok();
    assert_eq!(page, json!({"rooms": [{"room": "team:1", "count": 1}], "next": "team:1"}));
    let page = server.get("/v1/rooms?prefix=team:&after=team:1").await.ok();
    assert_eq!(page, json!({"rooms": [{"room": "team:3", "count": 1}], "next": null}));
    assert_eq!(ann.get("/v1/rooms").await.problem(), (403, "server_only"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_comes_in_pages_and_not_at_all_when_it_has_not_changed() {
    let deployment = start().await;
    for user in ["b", "c"] {
        deployment.user(user).join("lobby").await;
    }
    let ann = deployment.user("a");
    ann.join("lobby").await;
    let page = ann.get("/v1/rooms/lobby?limit=2").await.ok();
    assert_eq!((&page["count"], &page["next"]), (&json!(3), &json!("b")));
    let page = ann.get("/v1/rooms/lobby?limit=2&after=b").await.ok();
    assert_eq!((&page["members"][0]["id"], &page["next"]), (&json!("c"), &json!(null)));
    let first = ann.request(Method::GET, "/v1/rooms/lobby").send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    let again =
        ann.request(Method::GET, "/v1/rooms/lobby").header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    ann.leave("lobby").await;
    let changed =
        ann.request(Method::GET, "/v1/rooms/lobby").header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(changed.status(), 200);
}
