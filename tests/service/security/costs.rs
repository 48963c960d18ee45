//! What a caller makes others pay: reads are paid for by what they look up, writes by the events they cause, erasing takes no
//! longer in a large log, and readers leave connections to writers.

use std::collections::HashSet;

use futures_util::future::join_all;
use headcount::auth::{Claims, Rights};
use headcount::domain::id::UserId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::deployment::{Client, Deployment, start, start_with, token, token_key, tuning};

const PRESENCE: &str = "/v1/users/presence";

/// Ann in so many rooms, with one session, and without a request.
async fn ann_in_rooms(deployment: &Deployment, rooms: i64) {
    let join = "select count(*) from headcount.apply((
         select jsonb_agg(jsonb_build_object(
             'ord', n, 'op', 'join', 'room_id', 'r' || n, 'user_id', 'ann', 'name', 'The ann',
             'session_id', '00000000-0000-0000-0000-000000000001', 'lease', '1 h', 'lease_hidden', '1 h'
         )) from generate_series(1, $1) n
     ))";
    let mut connection = deployment.database.connect().await;
    let joined: i64 = sqlx::query_scalar(join).bind(rooms).fetch_one(&mut connection).await.unwrap();
    assert_eq!(joined, rooms);
}

async fn ask(caller: &Client, ids: &Value) -> (u16, String) {
    let answer = caller.post(PRESENCE, &json!({ "ids": ids })).await;
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_named_many_times_is_looked_up_and_answered_once() {
    let deployment = start().await;
    deployment.user("ann").join("lobby").await;
    let bob = deployment.user("bob");
    let ids: Vec<&str> = ["bob", "ann"].into_iter().cycle().take(1000).collect();
    let users = bob.post(PRESENCE, &json!({ "ids": ids })).await.ok()["users"].clone();
    let found: Vec<&str> =
        users.as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
    assert_eq!(found, ["bob", "ann"], "where each was first named");
    assert_eq!((&users[0]["online"], &users[1]["rooms"]), (&json!(false), &json!(["lobby"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_is_paid_for_by_what_was_looked_up() {
    let mut tuning = tuning();
    tuning.limits.reads_per_user = 1;
    let deployment = start_with(1, tuning).await;
    ann_in_rooms(&deployment, 100).await;
    let (bob, eve) = (deployment.user("bob"), deployment.user("eve"));
    // Five units at once: one call that finds 100 rooms leaves nothing.
    assert_eq!(ask(&bob, &json!(["ann"])).await.0, 200);
    assert_eq!(ask(&bob, &json!(["ann"])).await, (429, "too_many_reads".into()));
    for path in ["/v1/users/ann/presence", "/v1/users/ann", "/v1/rooms/r1", "/v1/rooms/r1/events"] {
        assert_eq!(bob.get(path).await.problem(), (429, "too_many_reads"), "{path}");
    }
    assert_eq!(eve.get("/v1/users/ann").await.ok()["name"], "The ann", "others read on");
    assert_eq!(ask(&deployment.server(), &json!(["ann"])).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_a_caller_may_not_watch_are_not_looked_up_for_them() {
    let mut tuning = tuning();
    tuning.limits.reads_per_user = 1;
    let deployment = start_with(1, tuning).await;
    ann_in_rooms(&deployment, 100).await;
    let only = |rooms: Value| {
        let sub = UserId::parse("bob").unwrap();
        let rooms: Rights = serde_json::from_value(rooms).unwrap();
        let claims = Claims { rooms, ..Claims::new(sub, 4_000_000_000) };
        deployment.caller_at(0, token_key().mint(&claims))
    };
    for (rooms, seen) in [(json!([]), json!([])), (json!(["r7"]), json!(["r7"]))] {
        let users = only(rooms).post(PRESENCE, &json!({"ids": ["ann"]})).await.ok()["users"].clone();
        assert_eq!(users[0]["rooms"], seen, "and that costs a unit, not six");
    }
    assert_eq!(ask(&only(json!([])), &json!(["ann"])).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_answer_looks_up_is_bounded_whoever_asks() {
    let deployment = start().await;
    deployment
        .execute(
            "insert into headcount.users (user_id, name) select 'u' || u, 'U' from generate_series(1, 6) u",
        )
        .await;
    deployment
        .execute(
            "insert into headcount.presence (session_id, user_id, lease) \
             select lpad(u::text, 32, '0')::uuid, 'u' || u, '1 h' from generate_series(1, 6) u",
        )
        .await;
    deployment
        .execute(
            "insert into headcount.memberships (room_id, user_id, session_id, joined_at, changed_at) \
             select 'r' || n, 'u' || u, lpad(u::text, 32, '0')::uuid, now(), now() \
             from generate_series(1, 1100) n, generate_series(1, 6) u where u = 1 or n <= 1000",
        )
        .await;
    let server = deployment.server();
    let one = server.get("/v1/users/u1/presence").await.ok();
    assert_eq!(one["rooms"].as_array().unwrap().len(), 1000, "the first by key");
    let all = json!(["u1", "u2", "u3", "u4", "u5", "u6"]);
    assert_eq!(ask(&server, &all).await, (400, "too_many_places".into()));
    assert_eq!(ask(&server, &json!(["u1", "u2", "u3", "u4", "u5"])).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_hang_leave_connections_to_writers() {
    let mut tuning = tuning();
    tuning.database_connections = 2;
    let deployment = start_with(1, tuning).await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    ann.join("lobby").await;
    let mut holder = deployment.database.connect().await;
    sqlx::raw_sql("begin; lock table headcount.log_state in access exclusive mode")
        .execute(&mut holder)
        .await
        .unwrap();
    let reads = (0..60).map(|_| {
        let server = server.clone();
        tokio::spawn(async move { server.get("/v1/rooms/lobby/history/occupancy").await })
    });
    let reads: Vec<_> = reads.collect();
    deployment.until("select exists (select from pg_locks where not granted)").await;
    ann.update("lobby", json!({"state": 1})).await.ok();
    let codes = join_all(reads).await.into_iter().map(|read| read.unwrap().problem().1.to_owned());
    let codes: HashSet<String> = codes.collect();
    assert!(codes.contains("overloaded") && codes.contains("unavailable"), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_paid_for_by_the_rooms_that_hear_of_it() {
    let mut tuning = tuning();
    tuning.limits.events_per_user = 2;
    let deployment = start_with(1, tuning).await;
    ann_in_rooms(&deployment, 20).await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    let name = async |name: &str| ann.send(Method::PUT, "/v1/users/ann", &json!({ "name": name })).await;
    for _ in 0..5 {
        name("The ann").await.ok(); // nobody hears of it
    }
    name("Ann").await.ok();
    assert_eq!(deployment.value("select count(*) from headcount.events where kind = 'updated'").await, 20);
    assert_eq!(name("Anne").await.problem(), (429, "too_many_events"));
    assert_eq!(ann.join_with("lobby", json!({})).await.problem(), (429, "too_many_events"));
    assert_eq!(ann.request(Method::DELETE, "/v1/users/ann").send().await.unwrap().status(), 429);
    bob.join("lobby").await;
    deployment.server().send(Method::PUT, "/v1/users/ann", &json!({"name": "Anne"})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_under_another_name_is_paid_for_likewise() {
    let mut tuning = tuning();
    tuning.limits.events_per_user = 2;
    let deployment = start_with(1, tuning).await;
    ann_in_rooms(&deployment, 20).await;
    let ann = deployment.user("ann");
    for _ in 0..5 {
        ann.join("lobby").await; // the name is what it was
    }
    let sub = UserId::parse("ann").unwrap();
    let name = Some("Ann".to_owned());
    let claims = Claims { name, rooms: Rights::everywhere(), ..Claims::new(sub, 4_000_000_000) };
    let renamed = Client { credential: token_key().mint(&claims), ..ann.clone() };
    renamed.join("lobby").await;
    assert_eq!(deployment.value("select count(*) from headcount.events where kind = 'updated'").await, 21);
    assert_eq!(ann.update("lobby", json!({"state": 1})).await.problem(), (429, "too_many_events"));
    ann.leave("lobby").await; // always
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_takes_steps_in_a_large_log_and_others_join_meanwhile() {
    let deployment = start().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    deployment
        .execute(
            "insert into headcount.events (room_id, version, kind, user_id, member) \
             select 'old', n, 'updated', case n % 10 when 0 then 'ann' else 'eve' end, \
                    jsonb_build_object('name', 'Ann', 'state', repeat('x', 300)) \
             from generate_series(1, 100000) n",
        )
        .await;
    let erase = async || ann.request(Method::DELETE, "/v1/users/ann").send().await.unwrap().status().as_u16();
    assert_eq!(erase().await, 202);
    assert_eq!(bob.get("/v1/users/ann").await.problem(), (404, "user_not_found"), "at once");
    assert_eq!(deployment.value("select count(*) from headcount.erasures").await, 1);
    assert_eq!(erase().await, 202, "it is still being searched");
    assert_eq!(deployment.value("select count(*) from headcount.erasures").await, 1);
    bob.join("lobby").await;
    deployment.until("select not exists (select from headcount.erasures)").await;
    let of_ann = "select count(*) from headcount.events where user_id = 'ann' and member is not null";
    assert_eq!(deployment.value(of_ann).await, 0);
    let of_eve = "select count(*) from headcount.events where user_id = 'eve' and member is not null";
    assert_eq!(deployment.value(of_eve).await, 90_000);
    assert_eq!(erase().await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_erases_themselves_so_often_and_no_more() {
    let mut tuning = tuning();
    tuning.limits.events_per_user = 1; // an erasure is paid for during a minute
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    let erase = async || ann.request(Method::DELETE, "/v1/users/ann").send().await.unwrap().status().as_u16();
    assert_eq!((erase().await, erase().await), (404, 429));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_what_is_left_of_each_limit() {
    let mut tuning = tuning();
    tuning.cors_origins = "https://app.example".parse().unwrap();
    (tuning.limits.writes_per_user, tuning.limits.streams_per_user) = (1, 2);
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    let join = async |caller: &Client| {
        let request =
            caller.request(Method::POST, "/v1/rooms/lobby/join").json(&ann.with(json!({"user": null})));
        let response = request.header("origin", "https://app.example").send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|h| h.to_str().unwrap().to_owned());
        let exposed = header("access-control-expose-headers").unwrap().to_lowercase();
        assert!(exposed.contains("ratelimit") && exposed.contains("ratelimit-policy"), "{exposed}");
        (response.status().as_u16(), header("ratelimit-policy"), header("ratelimit"))
    };
    let policies = "\"writes\";q=5;w=5, \"session-writes\";q=250;w=5, \"events\";q=500;w=5";
    let (status, policy, left) = join(&ann).await;
    assert_eq!((status, policy.as_deref()), (200, Some(policies)));
    assert_eq!(
        left.as_deref(),
        Some("\"writes\";r=4;t=1, \"session-writes\";r=249;t=1, \"events\";r=499;t=1")
    );
    while join(&ann).await.0 == 200 {}
    let (status, policy, left) = join(&ann).await;
    assert_eq!(
        (status, policy.as_deref(), left.as_deref()),
        (429, Some("\"writes\";q=5;w=5"), Some("\"writes\";r=0;t=5"))
    );
    let (_one, _two) = (ann.watch("lobby").await, ann.watch("lobby").await);
    let full = ann.request(Method::GET, "/v1/rooms/lobby/events").send().await.unwrap();
    assert_eq!(full.status(), 429);
    assert!(full.headers()["ratelimit"].to_str().unwrap().contains("\"streams\";r=0"));
    let server = deployment.server().get("/v1/rooms/lobby").await;
    assert_eq!(server.status, 200);
    let livez = ann.request(Method::GET, "/livez").send().await.unwrap();
    assert!(livez.headers().get("ratelimit").is_none(), "nothing limits it");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_counted_by_session() {
    let mut tuning = tuning();
    tuning.limits.heartbeats_per_user = 1;
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    let four: Vec<Value> = (0..4).map(|_| ann.tab().with(json!({}))).collect();
    ann.post("/v1/heartbeats", &json!(four)).await.ok();
    assert_eq!(ann.post("/v1/heartbeats", &json!(four)).await.problem(), (429, "too_many_heartbeats"));
}

/// By the default settings.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_fifty_tabs_meets_no_limit_and_takes_a_hundredth_of_a_replica() {
    let limits = tuning().limits;
    assert!(limits.streams_per_user * 50 <= limits.streams_per_replica);
    let deployment = start().await;
    let tabs: Vec<Client> =
        (0..50).map(|_| deployment.caller_at(0, token("ann", Rights::everywhere()))).collect();
    let opened = tabs.iter().map(|tab| async {
        for room in ["lobby", "team", "news"] {
            tab.join(room).await;
        }
        tab.beat(json!({})).await;
        tab.roster("lobby").await;
        (tab.watch("lobby").await, tab.watch_path("/v1/users/events?ids=ann,bob,eve", None).await)
    });
    assert_eq!(join_all(opened).await.len(), 50);
}
