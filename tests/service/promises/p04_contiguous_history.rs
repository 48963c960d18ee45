//! **P4** Contiguous history: versions without gap or repeat, and folding the log gives the roster.
//!
//! In `tests/sql`, `concurrent_joins_of_one_room_have_contiguous_versions`; `tests/support/law.rs` has it as laws of
//! the tables. While things break: `tests/faults/checker/log.rs` and `reads.rs`.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proptest::prelude::Rng;
use serde_json::{Value, json};
use tokio::time::interval;

use crate::support::deployment::{Deployment, start_with, tuning};
use crate::support::watcher::Watcher;

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
    let mut pace = interval(Duration::from_secs(1)); // of the load; what is tried waits for nothing of it
    while Instant::now() < end {
        let room = format!("room{}", random.next_u32() % 20);
        match random.next_u32() % 8 {
            0..=2 => drop(client.join_with(&room, json!({})).await),
            3 => drop(client.leave_with(&room, json!({})).await),
            4 => drop(client.leave_with(&room, json!({"grace": true})).await),
            5 => drop(client.update(&room, json!({"state": random.next_u32() % 5})).await),
            _ => drop(client.post("/v1/heartbeats", &client.with(json!({"active": true}))).await),
        }
        pace.reset_after(Duration::from_millis(u64::from(random.next_u32() % 400)));
        pace.tick().await;
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
