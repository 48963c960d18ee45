//! Notifications: a commit that logs sends one, and a replica that hears it need not wait for its poll.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::streams::watchlists::follow;
use crate::support::deployment::{start, start_with, tuning};

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
    let mark = "select mark::text from headcount.rooms where room_id = any ('{a:b, c}') order by room_id";
    let marks: Vec<String> = sqlx::query_scalar(mark).fetch_all(&pool).await.unwrap();
    assert_eq!(heard, marks);
}

/// Whom a turn finds is found up to two seconds late, and here always: each change is made just after a turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_heard_by_its_hint_and_not_only_in_turn() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut watcher = follow(&deployment.user("eve"), "ann").await;
    watcher.until_event("snapshot").await;
    let mut took = Vec::new();
    for n in 0..7 {
        let begin = Instant::now();
        if n % 2 == 0 {
            ann.join("lobby").await;
            watcher.until_event("online").await;
        } else {
            ann.leave("lobby").await;
            watcher.until_event("offline").await;
        }
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    assert!(took[3] < Duration::from_secs(1), "in the middle: {took:?}");
}
