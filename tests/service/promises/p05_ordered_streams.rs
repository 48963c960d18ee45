//! **P5** Ordered streams: versions increase, and a gap is always announced by a snapshot.
//!
//! Every [`Watcher`](crate::support::watcher::Watcher) of these tests panics at a version that does not increase and
//! at an epoch that changes without a snapshot. So `p4_and_p5_after_random_traffic_every_watchers_state_equals_the_table`,
//! beside this file, holds this promise too. A room that changed too much for a frame is in
//! `streams/large_rooms.rs`. While things break: `tests/faults/checker/streams.rs`.

use crate::support::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_lineage_is_announced_by_a_snapshot_to_those_who_watch() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mut watcher = deployment.user("bob").watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    deployment.execute("select headcount.new_lineage()").await;
    let frame = watcher.until_event("snapshot").await;
    assert_eq!(frame.data["reason"], "epoch");
    ann.leave("lobby").await;
    watcher.until_members("lobby", &[]).await;
}
