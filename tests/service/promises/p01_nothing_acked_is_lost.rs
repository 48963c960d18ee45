//! **P1** Nothing acknowledged is lost: a 2xx means committed, and every watcher on every replica gets it.
//!
//! While things break: `tests/faults/checker/acks.rs` and `delivery.rs` judge it in every scenario.

use crate::support::deployment::{start_with, tuning};

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
