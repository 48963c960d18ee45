//! Profiles, and where users are.

use reqwest::Method;
use serde_json::json;

use crate::support::deployment::{start, start_with, token_key, tuning};
use headcount::auth::{Acquaintances, Claims, Grant, Rights};
use headcount::domain::id::UserId;
use headcount::settings::{ErasureBy, ProfilesBy, Tuning};

#[tokio::test(flavor = "multi_thread")]
async fn changing_a_profile_is_an_update_in_every_room_of_the_user() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    ann.join("a").await;
    ann.join("b").await;
    let profile = json!({"name": "Ann B.", "avatar_url": "https://example.org/a.png"});
    let user = server.send(Method::PUT, "/v1/users/ann", &profile).await.ok();
    let avatar = "https://example.org/a.png";
    let stored = json!({"id": "ann", "name": "Ann B.", "avatar_url": avatar, "show_last_seen": "exact"});
    assert_eq!(user, stored);
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
    ann.join("lobby").await;
    let renamed = deployment.caller_at(0, named("ann", "Ann", None));
    assert_eq!(renamed.join("kitchen").await["member"]["name"], "Ann");
    assert_eq!(ann.get("/v1/users/ann").await.ok()["name"], "Ann");
}

/// A token with a name, issued then.
fn named(user: &str, name: &str, iat: Option<u64>) -> String {
    let name = Some(name.to_owned());
    let claims = Claims::new(UserId::parse(user).unwrap(), 4_000_000_000);
    token_key().mint(&Claims { iat, name, rooms: Rights::everywhere(), ..claims })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_set_is_not_undone_by_a_token_from_before() {
    let deployment = start().await;
    let server = deployment.server();
    let tab = |name: &str, iat| deployment.caller_at(0, named("ann", name, iat));
    let old = tab("Old", Some(1_700_000_000));
    old.join("lobby").await;
    server.send(Method::PUT, "/v1/users/ann", &json!({"name": "New"})).await.ok();
    assert_eq!(old.join("kitchen").await["member"]["name"], "New", "an old tab");
    assert_eq!(tab("Old", None).join("lobby").await["member"]["name"], "New", "it does not say when");
    deployment.execute("update headcount.users set name = 'Newer'").await;
    assert_eq!(old.join("garden").await["member"]["name"], "Newer", "set by plain SQL");
    assert_eq!(tab("Newest", Some(3_900_000_000)).join("lobby").await["member"]["name"], "Newest");
}

/// A token that may watch these rooms, and may know of these users.
fn acquainted(user: &str, rooms: &[&str], users: &[&str]) -> String {
    let rooms = Rights(Some(rooms.iter().map(|room| Grant::parse(room).unwrap()).collect()));
    let users = Acquaintances(users.iter().map(|id| (*id).to_owned()).collect());
    let claims = Claims::new(UserId::parse(user).unwrap(), 4_000_000_000);
    token_key().mint(&Claims { rooms, users, ..claims })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_only_where_a_token_may_not_look_is_as_one_who_does_not_exist() {
    let deployment = start().await;
    let (gil, server) = (deployment.user("gil"), deployment.server());
    let eve = deployment.caller_at(0, acquainted("eve", &["lobby"], &["bob"]));
    let look = async |id: &str| {
        let many = eve.post("/v1/users/presence", &json!({"ids": [id]})).await.ok();
        let one = eve.get(&format!("/v1/users/{id}/presence")).await.ok();
        let mut watcher = eve.watch_path(&format!("/v1/users/events?ids={id}"), None).await;
        let followed = watcher.until_event("snapshot").await.data["users"][0].clone();
        assert_eq!((&many["users"][0], &followed), (&one, &one));
        let profile = eve.get(&format!("/v1/users/{id}")).await;
        (one, profile.status.as_u16(), profile.body)
    };
    let nobody = async || {
        let (mut one, status, body) = look("nobody").await;
        one["id"] = json!("gil");
        (one, status, body)
    };
    gil.join("private:9").await;
    assert_eq!(look("gil").await, nobody().await);
    gil.beat(json!({"active": true})).await;
    gil.join("lobby").await;
    gil.leave("private:9").await;
    let (met, status, profile) = look("gil").await;
    assert_eq!((&met["online"], status, &profile["name"]), (&json!(true), 200, &json!("The gil")));
    assert!(met["last_seen"].is_string());
    gil.join("private:9").await;
    gil.leave("lobby").await;
    assert_eq!(look("gil").await, nobody().await, "they left, and that is all");
    assert_eq!(gil.get("/v1/users/gil").await.ok()["name"], "The gil");
    assert!(server.get("/v1/users/gil/presence").await.ok()["last_seen"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_names_a_user_or_may_watch_all_rooms_sees_their_profile_anywhere() {
    let deployment = start().await;
    let gil = deployment.user("gil");
    gil.join("private:9").await;
    gil.leave("private:9").await;
    for (rooms, users, status) in [
        (&["lobby"][..], &["gil"][..], 200),
        (&["lobby"], &["g*"], 200),
        (&["*"], &[], 200),
        (&["lobby", "private:*"], &["gilbert", "bob"], 404),
    ] {
        let eve = deployment.caller_at(0, acquainted("eve", rooms, users));
        assert_eq!(eve.get("/v1/users/gil").await.status.as_u16(), status, "{rooms:?} {users:?}");
        let last_seen = &eve.get("/v1/users/gil/presence").await.ok()["last_seen"];
        assert_eq!(last_seen.is_string(), status == 200, "{rooms:?} {users:?}");
    }
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
    assert_eq!(found["users"][1]["status"], "dnd", "in the other room nothing was said");
    assert!(found["users"][1]["last_seen"].is_string());
    ann.leave("a").await;
    ann.leave("b").await;
    let gone = server.get("/v1/users/ann/presence").await.ok();
    assert_eq!((&gone["online"], &gone["status"]), (&json!(false), &json!(null)));
    assert!(gone["last_seen"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_told_of_when_a_user_was_last_seen_what_the_user_lets_them() {
    let deployment = start().await;
    let (ann, bob, server) = (deployment.user("ann"), deployment.user("bob"), deployment.server());
    ann.join("lobby").await;
    let of = async |client: &crate::support::deployment::Client| {
        client.get("/v1/users/ann/presence").await.ok()["last_seen"].clone()
    };
    let exact = of(&bob).await;
    assert!(exact.is_string());
    for (show, told) in [
        ("coarse", json!(format!("{}T00:00:00.000Z", &exact.as_str().unwrap()[..10]))),
        ("hidden", json!(null)),
        ("exact", exact.clone()),
    ] {
        let answer =
            ann.send(Method::PUT, "/v1/users/ann", &json!({"name": "Ann", "show_last_seen": show})).await;
        assert_eq!(answer.ok()["show_last_seen"], show);
        // What is not given stays, and others are not told what it is.
        server.send(Method::PUT, "/v1/users", &json!([{"id": "ann", "name": "Ann"}])).await.ok();
        assert_eq!(ann.get("/v1/users/ann").await.ok()["show_last_seen"], show);
        assert_eq!(bob.get("/v1/users/ann").await.ok()["show_last_seen"], json!(null));
        assert_eq!(of(&bob).await, told, "{show}");
        let many = bob.post("/v1/users/presence", &json!({"ids": ["bob", "ann"]})).await.ok();
        assert_eq!(many["users"][1]["last_seen"], told, "{show}");
        assert_eq!((of(&ann).await, of(&server).await), (exact.clone(), exact.clone()), "{show}");
    }
    let refused =
        ann.send(Method::PUT, "/v1/users/ann", &json!({"name": "Ann", "show_last_seen": "weekly"})).await;
    assert_eq!(refused.problem(), (400, "invalid_body"));
    assert_eq!(deployment.log("lobby").await, ["joined ann", "updated ann"], "the name, and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_out_of_sight_does_not_count_as_being_seen() {
    let deployment = start().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    ann.update("lobby", json!({"invisible": true})).await.ok();
    let before = bob.get("/v1/users/ann/presence").await.ok();
    assert!(before["last_seen"].is_string());
    ann.beat(json!({"active": true})).await;
    ann.join_with("kitchen", json!({"invisible": true})).await.ok();
    ann.leave("lobby").await;
    ann.leave("kitchen").await;
    assert_eq!(bob.get("/v1/users/ann/presence").await.ok(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_a_user_ends_their_presence_and_leaves_nothing_of_them() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    ann.join_with("lobby", json!({"state": {"phone": "555"}})).await.ok();
    ann.update("lobby", json!({"state": {"phone": "556"}})).await.ok();
    let tab = ann.tab();
    tab.join("kitchen").await;
    tab.leave("kitchen").await;
    deployment.user("bob").join("lobby").await;
    assert_eq!(server.request(Method::DELETE, "/v1/users/ann").send().await.unwrap().status(), 202);
    deployment.until("select not exists (select from headcount.erasures)").await;
    let log = deployment.log("lobby").await;
    assert_eq!(log, ["joined ann", "updated ann", "joined bob", "left ann left"]);
    let of_others = "select count(*) from headcount.events where member is not null and user_id = 'bob'";
    assert_eq!(deployment.value(of_others).await, 1);
    for kept in [
        "select count(*) from headcount.events where member is not null and user_id <> 'bob'",
        "select count(*) from headcount.departures",
        "select count(*) from headcount.users where user_id = 'ann'",
        "select count(*) from headcount.presence where user_id = 'ann'",
        "select count(*) from headcount.memberships where user_id = 'ann'",
    ] {
        assert_eq!(deployment.value(kept).await, 0, "{kept}");
    }
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
    assert_eq!(ann.get("/v1/rooms").await.problem(), (403, "list_not_allowed"));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_changed_by_plain_sql_reaches_every_open_list() {
    let deployment = start_with(2, tuning()).await;
    let ann = deployment.user_at(0, "ann");
    let mut watchers = Vec::new();
    for room in ["a", "b"] {
        ann.join(room).await;
        for replica in [0, 1] {
            let mut watcher = deployment.user_at(replica, "eve").watch(room).await;
            watcher.until_event("snapshot").await;
            watchers.push(watcher);
        }
    }
    deployment.execute("update headcount.users set name = 'Ann by hand' where user_id = 'ann'").await;
    for watcher in &mut watchers {
        let diff = watcher.until_event("diff").await.data;
        assert_eq!(diff["updated"][0]["name"], "Ann by hand");
    }
    deployment.execute("delete from headcount.users where user_id = 'ann'").await;
    for watcher in &mut watchers {
        let diff = watcher.until_event("diff").await.data;
        assert_eq!((&diff["left"][0]["id"], &diff["count"]), (&json!("ann"), &json!(0)));
    }
    assert_eq!(ann.beat(json!({})).await, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_an_https_address_or_none() {
    let deployment = start_with(1, tuning()).await;
    let server = deployment.server();
    let put = async |url: &str| {
        server
            .send(Method::PUT, "/v1/users/ann", &json!({"name": "A", "avatar_url": url}))
            .await
            .status
            .as_u16()
    };
    assert_eq!(put("https://example.org/a.png").await, 200);
    for bad in
        ["javascript:alert(1)", "http://example.org/a.png", "data:text/html,x", "//example.org/a.png", ""]
    {
        assert_eq!(put(bad).await, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_says_of_a_user_is_not_the_users_to_change() {
    for (by, token, allowed) in [
        (ProfilesBy::Application, Some("The ann"), false),
        (ProfilesBy::Application, None, false),
        (ProfilesBy::Token, Some("The ann"), false),
        (ProfilesBy::Token, None, true),
        (ProfilesBy::User, Some("The ann"), true),
    ] {
        let deployment = start_with(1, Tuning { profiles_by: by, ..tuning() }).await;
        let claims = Claims::new(UserId::parse("ann").unwrap(), 4_000_000_000);
        let claims = Claims { name: token.map(str::to_owned), rooms: Rights::everywhere(), ..claims };
        let (ann, server) = (deployment.caller_at(0, token_key().mint(&claims)), deployment.server());
        server.send(Method::PUT, "/v1/users/ann", &json!({"name": "The ann"})).await.ok();
        let put = async |body| ann.send(Method::PUT, "/v1/users/ann", &body).await;
        let hidden = json!({"name": "The ann", "show_last_seen": "hidden"});
        assert_eq!(put(hidden).await.ok()["show_last_seen"], "hidden", "{by:?}: theirs to say");
        let renamed = put(json!({"name": "Root"})).await;
        if allowed {
            assert_eq!(renamed.ok()["name"], "Root", "{by:?} {token:?}");
        } else {
            assert_eq!(renamed.problem(), (403, "profile_not_allowed"), "{by:?} {token:?}");
        }
        server.send(Method::PUT, "/v1/users/ann", &json!({"name": "Root"})).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_oneself_needs_leave_and_does_not_erase_a_kick() {
    let mut deployment = start_with(1, Tuning { erasure_by: ErasureBy::Application, ..tuning() }).await;
    deployment.add(tuning());
    let (ann, server) = (deployment.user_at(1, "ann"), deployment.server());
    ann.join("lobby").await;
    server.post("/v1/rooms/lobby/kick", &json!({"user": "ann"})).await.ok();
    let erase = async |at| {
        let ann = deployment.user_at(at, "ann");
        ann.request(Method::DELETE, "/v1/users/ann").send().await.unwrap().status().as_u16()
    };
    assert_eq!(erase(0).await, 403);
    assert_eq!(erase(1).await, 202);
    deployment.until("select not exists (select from headcount.erasures)").await;
    let beat = ann.post("/v1/heartbeats", &ann.with(json!({}))).await.ok();
    assert_eq!(beat["sessions"][0]["kicked"], json!(["lobby"]));
}
