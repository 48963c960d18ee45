//! Users followed on one stream, wherever they are.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use headcount::auth::{Claims, Grant, Rights};
use headcount::domain::id::UserId;
use serde_json::{Value, json};

use crate::support::deployment::{Client, start, start_with, token, token_key, tuning};
use crate::support::watcher::Watcher;

/// A stream of these users.
pub async fn follow(client: &Client, ids: &str) -> Watcher {
    client.watch_path(&format!("/v1/users/events?ids={ids}"), None).await
}

/// What was heard, as `event id`; without `sync`.
fn heard(watcher: &Watcher) -> Vec<String> {
    let frames = watcher.heard.iter().filter(|frame| frame.event != "sync");
    frames.map(|frame| format!("{} {}", frame.event, frame.data["id"].as_str().unwrap_or_default())).collect()
}

/// A user of a snapshot.
pub fn user<'a>(snapshot: &'a Value, id: &str) -> &'a Value {
    snapshot["users"].as_array().unwrap().iter().find(|user| user["id"] == id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_on_every_replica_hear_who_comes_and_goes_and_of_no_tab() {
    let deployment = start_with(2, tuning()).await;
    let (ann, bob) = (deployment.user_at(0, "ann"), deployment.user_at(0, "bob"));
    bob.join("lobby").await;
    let mut watchers = [
        follow(&deployment.user_at(0, "eve"), "bob,ann,nobody").await,
        follow(&deployment.user_at(1, "eve"), "bob,ann,nobody").await,
    ];
    for watcher in &mut watchers {
        let snapshot = watcher.until_event("snapshot").await.data;
        let ids: Vec<_> =
            snapshot["users"].as_array().unwrap().iter().map(|user| user["id"].clone()).collect();
        assert_eq!(ids, ["bob", "ann", "nobody"], "in the order asked");
        assert_eq!(user(&snapshot, "bob")["online"], true);
        assert_eq!(user(&snapshot, "bob")["rooms"], json!(["lobby"]));
        assert_eq!(
            (&user(&snapshot, "ann")["online"], &user(&snapshot, "nobody")["online"]),
            (&json!(false), &json!(false))
        );
    }
    ann.join("lobby").await;
    for watcher in &mut watchers {
        let online = watcher.until_event("online").await.data;
        assert_eq!(
            (&online["id"], &online["status"], &online["rooms"]),
            (&json!("ann"), &json!("online"), &json!(["lobby"]))
        );
    }
    let tab = ann.tab();
    tab.join("lobby").await;
    ann.leave("lobby").await; // the tab is still there
    ann.beat(json!({"active": true})).await;
    tab.update("lobby", json!({"status": "dnd"})).await.ok();
    for watcher in &mut watchers {
        let updated = watcher.until_event("updated").await.data;
        assert_eq!((&updated["id"], &updated["status"]), (&json!("ann"), &json!("dnd")));
    }
    tab.join("kitchen").await;
    for watcher in &mut watchers {
        assert_eq!(watcher.until_event("updated").await.data["rooms"], json!(["kitchen", "lobby"]));
    }
    tab.leave("kitchen").await;
    tab.leave("lobby").await;
    for watcher in &mut watchers {
        let offline = watcher.until_event("offline").await.data;
        assert_eq!(
            (&offline["id"], &offline["status"], &offline["rooms"]),
            (&json!("ann"), &json!(null), &json!([]))
        );
        assert!(offline["last_seen"].is_string());
        let mut told = heard(watcher);
        told.dedup();
        assert_eq!(told, ["snapshot ", "online ann", "updated ann", "offline ann"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_expires_goes_offline_and_who_hides_too() {
    let deployment = start().await;
    deployment.settle().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    bob.join("lobby").await;
    let mut others = follow(&deployment.user("eve"), "ann,bob").await;
    let mut own = follow(&ann, "ann,bob").await;
    let mut server = follow(&deployment.server(), "ann,bob").await;
    for watcher in [&mut others, &mut own, &mut server] {
        watcher.until_event("snapshot").await;
    }
    ann.update("lobby", json!({"invisible": true})).await.ok();
    assert_eq!(others.until_event("offline").await.data["id"], "ann");
    deployment
        .execute("update headcount.presence set last_seen = last_seen - interval '1 h' where user_id = 'bob'")
        .await;
    for watcher in [&mut others, &mut own, &mut server] {
        assert_eq!(watcher.until_event("offline").await.data["id"], "bob");
    }
    // Those who may see her are told nothing: to them she is where she was.
    assert_eq!(heard(&own), ["snapshot ", "offline bob"]);
    assert_eq!(heard(&server), ["snapshot ", "offline bob"]);
    let again = follow(&ann, "ann").await.next().await.unwrap();
    assert_eq!(user(&again.data, "ann")["online"], true);
    let hidden = follow(&deployment.user("eve"), "ann").await.next().await.unwrap();
    assert_eq!(user(&hidden.data, "ann")["online"], false);
    assert_eq!(user(&hidden.data, "ann")["rooms"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_only_rooms_that_they_may_watch() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let teams = Rights(Some(vec![Grant::WatchAndJoin("team:*".into())]));
    let limited = deployment.caller_at(0, token("eve", teams));
    let mut watcher = follow(&limited, "ann").await;
    watcher.until_event("snapshot").await;
    ann.join("secret").await;
    ann.join("team:1").await;
    assert_eq!(watcher.until_event("online").await.data["rooms"], json!(["team:1"]));
    ann.leave("team:1").await;
    assert_eq!(watcher.until_event("offline").await.data["rooms"], json!([]));

    let answer = limited.post("/v1/tickets", &json!({"rooms": ["team:1"]})).await.ok();
    let ticket = answer["ticket"].as_str().unwrap();
    let path = format!("{}/v1/users/events?ids=ann&ticket={ticket}", limited.base);
    let mut by_ticket = Watcher::new(limited.http.get(path).send().await.unwrap());
    assert_eq!(user(&by_ticket.next().await.unwrap().data, "ann")["online"], false);
    ann.join("team:1").await;
    assert_eq!(by_ticket.until_event("online").await.data["rooms"], json!(["team:1"]));

    let none = deployment.caller_at(0, token("cat", Rights::default()));
    assert_eq!(user(&follow(&none, "ann").await.next().await.unwrap().data, "ann")["online"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_of_1_to_100_different_users() {
    let deployment = start().await;
    let eve = deployment.user("eve");
    let ids = |count: usize| (0..count).map(|n| format!("u{n}")).collect::<Vec<_>>().join(",");
    let refusal = async |query: String| eve.get(&format!("/v1/users/events{query}")).await;
    for query in [format!("?ids={}", ids(101)), "?ids=a,a".into(), "?ids=a&more=1".into(), String::new()] {
        assert_eq!(refusal(query.clone()).await.problem(), (400, "invalid_query"), "{query}");
    }
    for query in ["?ids=", "?ids=a,,b", "?ids=a%0Ab"] {
        assert_eq!(refusal(query.into()).await.problem(), (400, "invalid_user"), "{query}");
    }
    let snapshot = follow(&eve, &ids(100)).await.next().await.unwrap().data;
    assert_eq!(snapshot["users"].as_array().unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lists_open_at_once_and_each_hears_of_its_own() {
    let deployment = start().await;
    let eve = deployment.user("eve");
    let list = |n: usize| (0..100).map(|m| format!("u{}", (n * 37 + m) % 3000)).collect::<Vec<_>>().join(",");
    let lists: Vec<String> = (0..60).map(list).collect();
    let mut watchers = join_all(lists.iter().map(|ids| follow(&eve, ids))).await;
    join_all(watchers.iter_mut().map(|watcher| watcher.until_event("snapshot"))).await;
    deployment.user("u40").join("lobby").await;
    for (watcher, ids) in watchers.iter_mut().zip(&lists) {
        if ids.split(',').any(|id| id == "u40") {
            assert_eq!(watcher.until_event("online").await.data["id"], "u40");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_ends_with_its_token_and_with_its_replica() {
    let mut deployment = start().await;
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 2;
    let sub = UserId::parse("eve").unwrap();
    let claims = Claims { rooms: Rights::everywhere(), ..Claims::new(sub, soon) };
    let brief = deployment.caller_at(0, token_key().mint(&claims));
    let mut ending = follow(&brief, "ann").await;
    assert_eq!(ending.until_event("bye").await.data["reason"], "token_expired");
    assert!(ending.next().await.is_none());

    let mut drained = follow(&deployment.user("eve"), "ann").await;
    drained.until_event("snapshot").await;
    let replica = deployment.replicas.pop().unwrap();
    let (bye, ()) = futures_util::future::join(drained.until_event("bye"), replica.stop()).await;
    assert_eq!(bye.data["reason"], "drain");
}
