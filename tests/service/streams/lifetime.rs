//! How a stream begins and when it ends: the spread of its `retry`, its greatest age, its token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headcount::auth::{Claims, Rights};
use headcount::domain::id::UserId;
use serde_json::json;

use crate::support::deployment::{start, start_with, token_key, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_begins_with_a_spread_retry() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut response = ann.request(reqwest::Method::GET, "/v1/rooms/lobby/events").send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let chunk = response.chunk().await.unwrap().unwrap();
    let text = String::from_utf8(chunk.to_vec()).unwrap();
    let retry: u64 = text.strip_prefix("retry: ").unwrap().split('\n').next().unwrap().parse().unwrap();
    assert!((1000..=5000).contains(&retry), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_greatest_age_and_resumes() {
    let mut tuning = tuning();
    tuning.max_stream_age = std::time::Duration::from_millis(100);
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mut watcher = ann.watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    ann.update("lobby", json!({"state": 1})).await.ok(); // wakes it; without, it would be woken within 15 s
    while watcher.next().await.is_some() {}
    assert_eq!(watcher.heard.last().unwrap().data["reason"], "max_age");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_does() {
    let deployment = start_with(1, tuning()).await;
    let soon = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(1)).as_secs();
    let sub = UserId::parse("ann").unwrap();
    let claims = Claims { rooms: Rights::everywhere(), ..Claims::new(sub, soon) };
    let mut watcher = deployment.caller_at(0, token_key().mint(&claims)).watch("lobby").await;
    let bob = deployment.user("bob");
    let ending = async {
        while watcher.next().await.is_some_and(|frame| frame.event != "bye") {
            bob.join_with("lobby", json!({"state": SystemTime::now().elapsed().unwrap().as_nanos() as u64}))
                .await
                .ok();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ending).await.unwrap();
    assert_eq!(watcher.heard.last().unwrap().data["reason"], "token_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_outlives_every_clock_opens_streams() {
    let deployment = start().await;
    for exp in [u64::MAX, 1 << 63, (1 << 63) - 1, i64::MAX as u64 - 1, 1 << 40] {
        let (sub, rooms) = (UserId::parse("ann").unwrap(), Rights::everywhere());
        let token = token_key().mint(&Claims { rooms, ..Claims::new(sub, exp) });
        let ann = deployment.caller_at(0, token);
        for path in ["/v1/rooms/lobby/events", "/v1/events?rooms=lobby,hall", "/v1/users/events?ids=bob"] {
            let mut response = ann.request(reqwest::Method::GET, path).send().await.unwrap();
            assert_eq!(response.status(), 200, "{exp} {path}");
            let chunk = response.chunk().await.unwrap().unwrap();
            assert!(chunk.starts_with(b"retry: "), "{exp} {path}");
        }
        let ticket = ann.post("/v1/tickets", &json!({"rooms": ["lobby"]})).await.ok();
        assert!(ticket["ticket"].is_string(), "{exp}");
    }
}
