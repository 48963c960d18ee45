//! **P11** Degrade, not die: while Postgres is away streams stay open, watched rosters are served as stale, and writes
//! get 503 in under 1 s.
//!
//! Of a Postgres that hangs, is slow, or is down for longer than a lease: in `tests/faults`, `postgres_hung`,
//! `database_link_slow`, `postmaster_killed_and_down_for_longer_than_a_lease`.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::deployment::{PATIENCE, start};
use crate::wait::until_so;

#[tokio::test(flavor = "multi_thread")]
async fn p11_while_postgres_is_away_streams_stay_rosters_are_stale_and_writes_get_503() {
    let deployment = start().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    let mut watcher = ann.watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;

    deployment.database.admit(false).await;
    let mut took = Vec::new();
    for _ in 0..5 {
        let begin = Instant::now();
        let join = bob.request(Method::POST, "/v1/rooms/lobby/join").json(&bob.with(json!({})));
        let refused = join.send().await.unwrap();
        took.push(begin.elapsed());
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
    }
    took.sort_unstable();
    assert!(took[2] < Duration::from_secs(1), "in the middle: {took:?}");
    let roster = ann.roster("lobby").await;
    assert_eq!((&roster["stale"], &roster["count"]), (&json!(true), &json!(1)));

    deployment.database.admit(true).await;
    let joined = async || bob.join_with("lobby", json!({})).await.status.is_success();
    until_so("it is back", PATIENCE, joined).await;
    watcher.until_members("lobby", &["ann", "bob"]).await; // the same stream
    assert_eq!(deployment.log("lobby").await, ["joined ann", "joined bob"]);
}
