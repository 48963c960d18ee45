//! Limits: of calls, rooms, sessions and streams, for a user, a session, an address and a replica.

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::json;

use crate::api::room_settings::join_in_turn;
use crate::support::deployment::{Client, start_with, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_writes_too_often_is_refused_and_others_are_not() {
    let mut tuning = tuning();
    tuning.limits.writes_per_user = 1;
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    for _ in 0..5 {
        ann.join("lobby").await;
    }
    let response =
        ann.request(Method::POST, "/v1/rooms/lobby/join").json(&ann.with(json!({}))).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(ann.leave_with("lobby", json!({})).await.problem(), (429, "too_many_writes"));
    assert_eq!(ann.beat(json!({})).await, "alive"); // counted apart: a refused join must not cost the session
    deployment.user("bob").join("lobby").await;
    for _ in 0..20 {
        deployment.server().join_with("lobby", json!({"user": "eve"})).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_beats_too_often_is_refused() {
    let mut tuning = tuning();
    tuning.limits.heartbeats_per_user = 1;
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    for _ in 0..5 {
        ann.beat(json!({})).await;
    }
    let answer = ann.post("/v1/heartbeats", &ann.with(json!({}))).await;
    assert_eq!(answer.problem(), (429, "too_many_heartbeats"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_calls_too_often_is_refused_and_its_users_others_are_not() {
    let mut tuning = tuning();
    (tuning.limits.writes_per_session, tuning.limits.heartbeats_per_session) = (1, 1);
    let deployment = start_with(1, tuning).await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    let eve = Client { session: ann.session, ..deployment.user("eve") };
    for _ in 0..5 {
        ann.join("lobby").await;
        ann.beat(json!({})).await;
        // Who knows a session's id uses up nothing of it.
        assert_eq!(eve.update("lobby", json!({})).await.problem(), (404, "session_not_found"));
    }
    let refused = ann.update("lobby", json!({})).await;
    assert_eq!(refused.problem(), (429, "too_many_session_writes"));
    assert_eq!(ann.leave_with("lobby", json!({})).await.problem(), (429, "too_many_session_writes"));
    let refused = ann.post("/v1/heartbeats", &json!([bob.with(json!({})), ann.with(json!({}))])).await;
    assert_eq!(refused.problem(), (429, "too_many_session_heartbeats"));
    let tab = ann.tab();
    tab.join("lobby").await;
    assert_eq!(tab.beat(json!({})).await, "alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_rooms_and_sessions_and_the_newest_is_refused() {
    let mut tuning = tuning();
    (tuning.limits.rooms_per_user, tuning.limits.sessions_per_user) = (2, 2);
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    ann.join("a").await;
    ann.join("b").await;
    let path = "/v1/rooms/c/join";
    let refused = ann.request(Method::POST, path).json(&ann.with(json!({}))).send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "30");
    assert_eq!(ann.join_with("c", json!({})).await.problem(), (429, "too_many_rooms"));
    ann.join("a").await; // a repeated join needs nothing new
    let (tab, third) = (ann.tab(), ann.tab());
    tab.join("a").await;
    assert_eq!(tab.join_with("c", json!({})).await.problem(), (429, "too_many_rooms"));
    assert_eq!(third.join_with("a", json!({})).await.problem(), (429, "too_many_sessions"));
    assert_eq!((ann.beat(json!({})).await, tab.beat(json!({})).await), ("alive".into(), "alive".into()));
    assert_eq!(deployment.value("select count(*) from headcount.rooms where room_id = 'c'").await, 0);
    ann.leave("b").await;
    ann.join("c").await;
    tab.leave("a").await;
    third.join("a").await;
    deployment.server().join_with("d", json!({"user": "ann"})).await.ok();
    deployment.user("bob").join("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_at_once_on_two_replicas_are_no_way_around_the_limits() {
    let mut tuning = tuning();
    (tuning.limits.rooms_per_user, tuning.limits.sessions_per_user) = (3, 3);
    let deployment = start_with(2, tuning).await;
    let ann = deployment.user("ann");
    let rooms = (0..40).map(|n| {
        let here = Client { session: ann.session, ..deployment.user_at(n % 2, "ann") };
        async move { join_in_turn(&here, &format!("room{}", n / 2)).await }
    });
    let sessions = (0..40).map(|n| {
        let tab = deployment.user_at(n % 2, "bob");
        async move { join_in_turn(&tab, "lobby").await }
    });
    let (rooms, sessions) = join(join_all(rooms), join_all(sessions)).await;
    for (answers, code) in [(rooms, "too_many_rooms"), (sessions, "too_many_sessions")] {
        let refused = answers.iter().filter(|answer| !answer.status.is_success());
        for answer in refused {
            assert_eq!(answer.problem(), (429, code));
        }
    }
    let rooms = "select count(distinct room_id) from headcount.memberships where user_id = 'ann'";
    assert_eq!(deployment.value(rooms).await, 3);
    let sessions = "select count(distinct session_id) from headcount.memberships where user_id = 'bob'";
    assert_eq!(deployment.value(sessions).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_stream_is_refused_and_the_open_ones_stay() {
    let mut tuning = tuning();
    tuning.limits.streams_per_user = 2;
    tuning.limits.streams_per_replica = 3;
    let deployment = start_with(1, tuning).await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    let (mut first, second) = (ann.watch("lobby").await, ann.watch("lobby").await);
    assert_eq!(ann.get("/v1/rooms/lobby/events").await.problem(), (429, "too_many_streams"));
    let _third = bob.watch("lobby").await;
    assert_eq!(bob.get("/v1/rooms/lobby/events").await.problem(), (503, "replica_full"));
    drop(second);
    let opened = async {
        while ann.request(Method::GET, "/v1/rooms/lobby/events").send().await.unwrap().status() != 200 {}
    };
    tokio::time::timeout(crate::support::deployment::PATIENCE, opened)
        .await
        .expect("its place is given back");
    bob.join("lobby").await;
    first.until_event("diff").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_addresses_are_believed_from_our_own_proxies_only() {
    for (trusted, refused) in [("", true), ("127.0.0.0/8", false)] {
        let mut tuning = tuning();
        tuning.limits.requests_per_address = 1;
        tuning.limits.trusted_proxies = trusted.parse().unwrap();
        let deployment = start_with(1, tuning).await;
        let ann = deployment.user("ann");
        let mut last = 0;
        for n in 0..10 {
            // What the client wrote itself comes first; what the proxy saw comes last.
            let forwarded = format!("203.0.113.1, 198.51.100.{n}");
            let request = ann.request(Method::GET, "/livez").header("x-forwarded-for", forwarded);
            last = request.send().await.unwrap().status().as_u16();
        }
        assert_eq!(last, if refused { 429 } else { 200 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_writes_into_x_forwarded_for_gives_it_no_address_of_its_own() {
    let mut tuning = tuning();
    tuning.limits.requests_per_address = 1;
    tuning.limits.trusted_proxies = "127.0.0.0/8".parse().unwrap();
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    // The last address is what the proxy saw. In one network, IPv6 addresses are one client.
    for (client, forged) in [("203.0.113.7", "9.9.9.N, x, "), ("2001:db8:1:2::N", "9.9.9.N, x, ")] {
        for lines in [1, 2] {
            let mut last = 0;
            for n in 0..10 {
                let mut request = ann.request(Method::GET, "/livez");
                let (client, forged) =
                    (client.replace('N', &n.to_string()), forged.replace('N', &n.to_string()));
                if lines == 2 {
                    request = request.header("x-forwarded-for", forged.trim_end_matches(", "));
                    request = request.header("x-forwarded-for", client);
                } else {
                    request = request.header("x-forwarded-for", format!("{forged}{client}"));
                }
                last = request.send().await.unwrap().status().as_u16();
            }
            assert_eq!(last, 429, "{client}, in {lines} lines");
        }
    }
}
