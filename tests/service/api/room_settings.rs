//! Settings of rooms by pattern: set while replicas run, by REST and by SQL.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use headcount::settings::Switch;
use reqwest::Method;
use serde_json::{Value, json};

use crate::database::law;
use crate::support::deployment::{Answer, Client, Deployment, PATIENCE, start, start_with, tuning};

pub async fn set(deployment: &Deployment, pattern: &str, settings: Value) -> Value {
    let path = format!("/v1/settings/rooms/{pattern}");
    deployment.server().send(Method::PUT, &path, &settings).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_replaced_listed_and_removed_and_what_cannot_be_is_refused() {
    let deployment = start().await;
    let server = deployment.server();
    let team = json!({"lease_ms": 9000, "hidden_lease_ms": 20000, "coalesce_ms": 100, "list_max": 50, "members_max": 500});
    set(&deployment, "team:*", json!({"members_max": 3})).await;
    let expected = json!({"pattern": "team:*", "settings": team});
    assert_eq!(set(&deployment, "team:*", team).await, expected);
    set(&deployment, "*", json!({})).await;
    let all = server.get("/v1/settings/rooms").await.ok();
    assert_eq!(all["rooms"][1], expected);
    assert_eq!(all["rooms"][0]["pattern"], "*");

    for pattern in ["a%20b", "t*m", "**", "%C3%A9*"] {
        let path = format!("/v1/settings/rooms/{pattern}");
        let refused = server.send(Method::PUT, &path, &json!({})).await;
        assert_eq!(refused.problem(), (400, "invalid_pattern"), "{pattern}");
    }
    for bad in [
        json!({"lease_ms": 2999}),
        json!({"hidden_lease_ms": 3_600_001}),
        json!({"lease_ms": 5000, "hidden_lease_ms": 4000}),
        json!({"coalesce_ms": 19}),
        json!({"list_max": 1001}),
        json!({"members_max": 0}),
        json!({"colour": "red"}),
        json!([null, null]),
    ] {
        let refused = server.send(Method::PUT, "/v1/settings/rooms/lobby", &bad).await;
        assert_eq!(refused.problem(), (400, "invalid_body"), "{bad}");
    }
    for _ in 0..2 {
        let removed = server.send(Method::DELETE, "/v1/settings/rooms/team:*", &json!(null)).await;
        assert_eq!(removed.status.as_u16(), 204);
    }
    assert_eq!(server.get("/v1/settings/rooms").await.ok()["rooms"].as_array().unwrap().len(), 1);

    deployment
        .execute(
            "insert into headcount.room_settings (pattern) select 'room' || n from generate_series(1, 99) n",
        )
        .await;
    let refused = server.send(Method::PUT, "/v1/settings/rooms/more", &json!({})).await;
    assert_eq!(refused.problem(), (409, "too_many_settings"));
    set(&deployment, "room7", json!({"list_max": 7})).await; // it is there already
}

/// Forty at once keep a room so busy that some are asked to come again.
pub async fn join_in_turn(user: &Client, room: &str) -> Answer {
    loop {
        let answer = user.join_with(room, json!({})).await;
        if answer.problem() != (503, "room_busy") {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_never_has_more_members_than_it_takes() {
    let deployment = start_with(2, tuning()).await;
    set(&deployment, "small:*", json!({"members_max": 5})).await;
    let users: Vec<Client> = (0..40).map(|n| deployment.user_at(n % 2, &format!("u{n:02}"))).collect();
    let answers = join_all(users.iter().map(|user| join_in_turn(user, "small:1"))).await;
    let (inside, outside): (Vec<_>, Vec<_>) =
        users.iter().zip(&answers).partition(|(_, answer)| answer.status.is_success());
    assert_eq!(inside.len(), 5);
    for (_, answer) in &outside {
        assert_eq!(answer.problem(), (409, "room_full"));
    }
    let (member, other) = (inside[0].0, outside[0].0);
    assert_eq!(member.roster("small:1").await["count"], 5);
    assert_eq!(other.beat(json!({})).await, "gone", "a join that is refused makes no session");
    member.tab().join("small:1").await; // no member more
    member.join("small:1").await;
    deployment.user("eve").join("large").await;

    // Who is there unseen is no member, and cannot become one.
    other.join_with("small:1", json!({"invisible": true})).await.ok();
    let shown = other.update("small:1", json!({"invisible": false})).await;
    assert_eq!(shown.problem(), (409, "room_full"));
    let server = deployment.server();
    let by_server = server.join_with("small:1", json!({"user": "cat"})).await;
    assert_eq!(by_server.problem(), (409, "room_full"));

    server
        .post(
            "/v1/rooms/small:1/kick",
            &json!({"user": inside[1].0.roster("small:1").await["members"][0]["id"]}),
        )
        .await
        .ok();
    other.update("small:1", json!({"invisible": false})).await.ok();
    assert_eq!(server.join_with("small:1", json!({"user": "cat"})).await.problem(), (409, "room_full"));
    // Room for more, and for as many.
    set(&deployment, "small:1", json!({"members_max": 6})).await;
    server.join_with("small:1", json!({"user": "cat"})).await.ok();
    assert_eq!(deployment.value("select max(member_count)::bigint from headcount.rooms").await, 6);
    law::assert_lawful(&mut deployment.database.connect().await).await;
}

fn lease(answer: &Value) -> u64 {
    answer["lease_ms"].as_u64().unwrap()
}

/// The answer to a heartbeat.
async fn beat(client: &Client, fields: Value) -> Value {
    client.post("/v1/heartbeats", &client.with(fields)).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_the_shortest_lease_of_its_rooms_and_is_told_when_to_beat() {
    let deployment = start().await;
    set(&deployment, "quick:*", json!({"lease_ms": 9000, "hidden_lease_ms": 15000})).await;
    set(&deployment, "slow", json!({"lease_ms": 90_000})).await;
    let ann = deployment.user("ann");
    assert_eq!(lease(&ann.join("lobby").await), 45_000);
    let quick = ann.join("quick:1").await;
    assert_eq!(lease(&quick), 9000);
    let heartbeat = quick["heartbeat_ms"].as_u64().unwrap();
    assert!((2700..=3300).contains(&heartbeat), "a third of the lease: {heartbeat}");
    assert_eq!(lease(&ann.join("lobby").await), 9000, "whatever room it joins");
    assert_eq!(lease(&beat(&ann, json!({})).await), 9000);
    assert_eq!(lease(&beat(&ann, json!({"visible": false})).await), 15_000);
    let stored = "select extract(epoch from lease)::bigint from headcount.presence";
    assert_eq!(deployment.value(stored).await, 15);
    assert_eq!(lease(&beat(&ann, json!({"visible": true})).await), 9000);
    ann.leave("quick:1").await;
    assert_eq!(lease(&ann.join("lobby").await), 45_000);

    let (bob, cat) = (deployment.user("bob"), deployment.user("cat"));
    assert_eq!(lease(&bob.join("slow").await), 90_000);
    assert_eq!(lease(&beat(&bob, json!({})).await), 90_000);
    assert_eq!(lease(&bob.join("lobby").await), 45_000, "what is not set counts too");
    // Removed: counts from the next join. Until then the session lives as it was told.
    assert_eq!(lease(&cat.join("quick:2").await), 9000);
    deployment.execute("delete from headcount.room_settings").await;
    assert_eq!(lease(&beat(&cat, json!({})).await), 9000);
    assert_eq!(lease(&cat.join("quick:2").await), 45_000);
    assert_eq!(lease(&beat(&cat, json!({})).await), 45_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_as_far_apart_as_is_set_without_a_restart() {
    let mut tuning = tuning();
    tuning.listener = Switch::Off; // found by the poll
    let deployment = start_with(2, tuning).await;
    let mut watcher = deployment.user_at(1, "bob").watch("stage").await;
    watcher.until_event("snapshot").await;
    deployment
        .execute("insert into headcount.room_settings (pattern, coalesce_ms) values ('sta*', 900)")
        .await;
    let changing = async {
        let ann = deployment.user_at(1, "ann");
        for n in 0.. {
            ann.join_with("stage", json!({"state": {"n": n}})).await.ok();
        }
    };
    let hearing = async {
        let mut last = Instant::now();
        loop {
            watcher.until_event("diff").await;
            let gap = last.elapsed();
            last = Instant::now();
            if gap > Duration::from_millis(800) {
                return; // there are changes all the time, and without a setting a frame each 20 ms
            }
        }
    };
    let heard = async {
        tokio::select! {
            () = changing => {}
            () = hearing => {}
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("frames far apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_as_long_as_is_set_and_past_that_the_count_is_sent() {
    let deployment = start().await;
    set(&deployment, "hall", json!({"list_max": 2})).await;
    let users: Vec<Client> = ["ann", "bob", "cat"].iter().map(|id| deployment.user(id)).collect();
    let mut lists = users[0].watch_path("/v1/rooms/hall/events?mode=list", None).await;
    let mut told = Vec::new();
    lists.next().await;
    for user in &users {
        user.join("hall").await;
        told.push(lists.next().await.unwrap().event);
    }
    assert_eq!(told, ["presence", "presence", "count"]);
    assert_eq!(lists.heard.last().unwrap().data["count"], 3);
    let first = users[0].watch("hall").await.next().await.unwrap();
    assert_eq!((first.event.as_str(), &first.data["count"]), ("snapshot", &json!(3)));
    assert_eq!(first.data["members"].as_array().unwrap().len(), 2);
    users[2].leave("hall").await;
    assert_eq!(lists.next().await.unwrap().event, "presence");
}
