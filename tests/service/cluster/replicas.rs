//! P1, P2, P4, P5, P13: several replicas on one database.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use headcount::settings::Switch;
use proptest::prelude::Rng;
use serde_json::{Value, json};

use crate::support::deployment::{Deployment, start_with, tuning};
use crate::support::watcher::Watcher;

#[tokio::test(flavor = "multi_thread")]
async fn p1_every_watcher_on_every_replica_gets_an_acked_join() {
    let deployment = start_with(2, tuning()).await;
    let mut watchers = Vec::new();
    for replica in [0, 1, 0, 1] {
        watchers.push(deployment.user_at(replica, "bob").watch("lobby").await);
    }
    let cursor = deployment.user_at(1, "ann").join("lobby").await["cursor"].as_str().unwrap().to_owned();
    for watcher in &mut watchers {
        watcher.until_cursor("lobby", &cursor).await;
        assert_eq!(watcher.members("lobby"), ["ann"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_roster_or_stream_opened_after_the_ack_is_at_or_past_it() {
    let mut tuning = tuning();
    tuning.listener = Switch::Off; // the other replica has not heard of it
    let deployment = start_with(2, tuning).await;
    let _keeps_the_room_known = deployment.user_at(1, "eve").watch("lobby").await.next().await;
    for n in 0..20 {
        let ann = deployment.user_at(0, &format!("u{n:02}"));
        ann.join("lobby").await;
        let bob = deployment.user_at(1, "bob");
        assert_eq!(bob.roster("lobby").await["count"], n + 1);
        let first = bob.watch("lobby").await.next().await.unwrap();
        assert_eq!(first.data["count"], n + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p13_without_listen_changes_of_other_replicas_are_found_by_the_poll() {
    let mut tuning = tuning();
    tuning.listener = Switch::Off;
    let deployment = start_with(2, tuning).await;
    let mut watcher = deployment.user_at(1, "bob").watch("lobby").await;
    watcher.until_event("snapshot").await;
    deployment.user_at(0, "ann").join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_logs_notifies_of_its_rooms_and_a_heartbeat_does_not() {
    let deployment = start_with(1, tuning()).await;
    let pool = sqlx::PgPool::connect_with(deployment.database.options.clone()).await.unwrap();
    let mut listener = sqlx::postgres::PgListener::connect_with(&pool).await.unwrap();
    listener.listen("headcount").await.unwrap();
    let ann = deployment.user("ann");
    ann.join("a:b").await;
    ann.beat(json!({"active": true})).await;
    ann.tab().join("a:b").await; // no event, so nothing to tell
    ann.join("c").await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let payload = listener.recv().await.unwrap().payload().to_owned();
        if !payload.starts_with('?') {
            heard.push(payload); // the others are a listener's nonces
        }
    }
    assert_eq!(heard, ["a:b:1", "c:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p13_forged_and_garbage_notifications_change_nothing() {
    let deployment = start_with(1, tuning()).await;
    let ann = deployment.user("ann");
    let mut watcher = ann.watch("lobby").await;
    watcher.until_event("snapshot").await;
    for payload in ["lobby:999999", "lobby:-1", "", "?", "lobby", "a b c", "lobby:1 lobby:1 \u{1}:x", "*:1"] {
        let mut connection = deployment.database.connect().await;
        sqlx::query("select pg_notify('headcount', $1)")
            .bind(payload)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    ann.join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    assert_eq!(watcher.heard.len(), 2, "{:?}", watcher.heard);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_mid_request_poison_no_connection() {
    let deployment = start_with(1, tuning()).await;
    let requests = (0..300).map(|n| {
        let client = deployment.user(&format!("u{n}"));
        async move {
            // Cut at any point: before, while and after the command runs.
            let patience = Duration::from_micros(n * 40);
            let _ = tokio::time::timeout(patience, client.join_with("lobby", json!({}))).await;
            let _ = tokio::time::timeout(patience, client.get("/v1/rooms/lobby")).await;
        }
    });
    join_all(requests).await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    ann.leave("lobby").await;
    let idle = "select count(*) from pg_stat_activity \
                where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(deployment.value(idle).await, 0);
}

/// 200 users, 20 rooms, two replicas, random traffic for 20 s; watchers that come and go and resume.
#[tokio::test(flavor = "multi_thread")]
async fn p4_and_p5_after_random_traffic_every_watchers_state_equals_the_table() {
    let mut tuning = tuning();
    tuning.lease = Duration::from_secs(4);
    tuning.leave_grace = Duration::from_millis(300);
    let deployment = start_with(2, tuning).await;
    let end = Instant::now() + Duration::from_secs(20);
    let users = join_all((0..200).map(|n| wander(&deployment, n, end)));
    let watchers = join_all((0..40).map(|n| follow(&deployment, n, end)));
    let (_, mut watchers) = futures_util::future::join(users, watchers).await;
    // At rest: everybody who went silent is swept, every leave with grace is over.
    deployment.until("select not exists (select from headcount.presence)").await;
    for (n, watcher) in watchers.iter_mut().enumerate() {
        let room = format!("room{}", n % 20);
        watcher.until_members(&room, &[]).await;
    }
    assert_eq!(deployment.value(GAPS).await, 0, "versions are contiguous");
    assert_eq!(deployment.value(UNLAWFUL).await, 0, "per user the log reads (joined updated* left)*");
    assert!(deployment.value("select count(*) from headcount.events").await > 500);
}

const GAPS: &str = "select count(*) from (select room_id, max(version) - count(*) as missing \
                    from headcount.events group by room_id) r where missing <> 0";

const UNLAWFUL: &str = "select count(*) from (select kind, lag(kind) over (partition by room_id, user_id order by version) as before \
     from headcount.events) e where (kind = 'joined') <> (before is null or before = 'left')";

/// Joins, beats, updates and leaves rooms at random, and goes silent at the end. A call may be refused, on a busy
/// machine: what was not acked is not claimed.
async fn wander(deployment: &Deployment, n: usize, end: Instant) {
    let client = deployment.user_at(n % 2, &format!("user{:03}", n / 2)); // two sessions a user, one on each replica
    let mut random =
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    for _ in 0..n {
        random.next_u32();
    }
    while Instant::now() < end {
        let room = format!("room{}", random.next_u32() % 20);
        match random.next_u32() % 8 {
            0..=2 => drop(client.join_with(&room, json!({})).await),
            3 => drop(client.leave_with(&room, json!({})).await),
            4 => drop(client.leave_with(&room, json!({"grace": true})).await),
            5 => drop(client.update(&room, json!({"state": random.next_u32() % 5})).await),
            _ => drop(client.post("/v1/heartbeats", &client.with(json!({"active": true}))).await),
        }
        tokio::time::sleep(Duration::from_millis(u64::from(random.next_u32() % 400))).await;
    }
}

/// Watches a room, cuts the stream every now and then, and resumes: the fold goes on across the cuts.
async fn follow(deployment: &Deployment, n: usize, end: Instant) -> Watcher {
    let room = format!("room{}", n % 20);
    let client = deployment.user_at((n / 20) % 2, "watcher");
    let mut watcher = client.watch(&room).await;
    let mut heard = 0;
    while Instant::now() < end {
        let _ = tokio::time::timeout(Duration::from_millis(500), watcher.next()).await;
        heard += 1;
        if heard % 25 == 0 && watcher.last_id.is_some() {
            watcher = client.resume(&format!("/v1/rooms/{room}/events"), watcher).await;
        }
    }
    compare(deployment, &room, &mut watcher).await;
    watcher
}

/// The watcher's members at some cursor are those of the log folded to that version. But for their sessions: another
/// tab is no event, so a snapshot may count one of which the log does not tell.
async fn compare(deployment: &Deployment, room: &str, watcher: &mut Watcher) {
    let (_, version) = crate::support::watcher::split(&watcher.cursors[room]);
    let fold = "select distinct on (user_id) user_id, member from headcount.events \
                where room_id = $1 and version <= $2 order by user_id, version desc";
    let rows: Vec<(String, Option<Value>)> = sqlx::query_as(fold)
        .bind(room)
        .bind(i64::try_from(version).unwrap())
        .fetch_all(&mut deployment.database.connect().await)
        .await
        .unwrap();
    let without_sessions = |(id, mut member): (String, Value)| {
        member.as_object_mut().unwrap().remove("sessions");
        (id, member)
    };
    let logged = rows.into_iter().filter_map(|(id, member)| Some((id, member?)));
    let expected: Vec<(String, Value)> = logged.map(without_sessions).collect();
    let found: Vec<(String, Value)> =
        watcher.rosters[room].clone().into_iter().map(without_sessions).collect();
    assert_eq!(found, expected, "{room} at {version}");
}
