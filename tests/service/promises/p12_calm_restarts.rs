//! **P12** Calm restarts: SIGTERM says `bye` to every stream and emits no event.
//!
//! Of a process, under load: `ops/restart.rs`; over TLS: `security/tls.rs`. Of all replicas, one after the other: in
//! `tests/faults`, `replicas_restarted_one_after_the_other` and `replicas_restarted_at_rest_emit_no_event`.

use crate::support::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_draining_replica_says_bye_and_emits_nothing() {
    let mut deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let mut watcher = ann.watch("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    let stopping = tokio::spawn(deployment.replicas.pop().unwrap().stop());
    let bye = watcher.until_event("bye").await;
    assert_eq!(bye.data["reason"], "drain");
    assert!(watcher.next().await.is_none());
    stopping.await.unwrap();
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}
