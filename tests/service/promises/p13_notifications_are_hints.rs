//! **P13** Notifications are hints: losing or forging them changes latency only, up to a poll every 2 s.
//!
//! What is notified, and that it is heard before the poll: `cluster/notifications.rs`. While things break: in
//! `tests/faults`, `scenarios/listener.rs`.

use headcount::settings::Switch;

use crate::streams::watchlists::follow;
use crate::support::deployment::{start_with, tuning};

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
async fn p13_without_listen_changes_of_other_replicas_are_found_in_turn() {
    let mut tuning = tuning();
    tuning.listener = Switch::Off;
    let deployment = start_with(2, tuning).await;
    let ann = deployment.user_at(0, "ann");
    let mut watcher = follow(&deployment.user_at(1, "eve"), "ann").await;
    for _ in 0..2 {
        ann.join("lobby").await;
        watcher.until_event("online").await;
        ann.leave("lobby").await;
        watcher.until_event("offline").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p13_forged_and_garbage_notifications_change_nothing() {
    let deployment = start_with(1, tuning()).await;
    let ann = deployment.user("ann");
    let mut watcher = ann.watch("lobby").await;
    watcher.until_event("snapshot").await;
    for payload in [
        "lobby:999999",
        "lobby:-1",
        "",
        "?",
        "lobby",
        "a b c",
        "1 -1 1 \u{1}:x",
        "9223372036854775808",
        "-9223372036854775808",
    ] {
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
