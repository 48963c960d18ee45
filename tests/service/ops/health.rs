//! Health checks: `/livez`, `/readyz` and what it names, and the operators' own listener.

use std::process::Stdio;

use serde_json::json;

use crate::support::deployment::{PATIENCE, start, start_with, tuning};
use crate::support::process::service;
use crate::wait::until_so;

#[tokio::test(flavor = "multi_thread")]
async fn operators_learn_whether_it_is_ready() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    assert_eq!(ann.get("/livez").await.ok(), "ok");
    assert_eq!(ann.get("/readyz").await.ok()["ready"], true);
    assert!(ann.get("/metrics").await.ok().as_str().unwrap().contains("headcount_watchers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_can_have_a_listener_of_their_own() {
    let apart = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // free a moment ago
    let mut tuning = tuning();
    tuning.operator_listen = Some(apart);
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    assert_eq!(ann.get("/metrics").await.problem(), (404, "not_found"));
    let operator = crate::support::deployment::Client { base: format!("http://{apart}"), ..ann };
    assert!(operator.get("/metrics").await.ok().as_str().unwrap().contains("headcount_watchers"));
    assert_eq!(operator.get("/readyz").await.ok()["ready"], true);
    assert_eq!(operator.get("/v1/rooms").await.problem(), (404, "not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_names_what_is_missing_and_what_is_only_worse() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let ready = async || {
        let answer = ann.get("/readyz").await;
        (answer.status.as_u16(), answer.body["missing"].clone(), answer.body["degraded"].clone())
    };
    // It has only just started.
    until_so("it listens, or was not asked to", PATIENCE, async || ready().await.2 != json!(["listener"]))
        .await;
    assert_eq!(ready().await, (200, json!([]), json!([])));
    // As while replicas are replaced by newer ones.
    deployment
        .execute("insert into headcount.migrations select 99999, 'later', now(), true, checksum, 0 from headcount.migrations limit 1")
        .await;
    assert_eq!(ready().await, (200, json!([]), json!(["migrations"])));
    deployment
        .execute("delete from headcount.migrations m where m.version >= (select max(version) from headcount.migrations where version < 99999)")
        .await;
    assert_eq!(ready().await, (503, json!(["migrations"]), json!([])));
    deployment.execute("drop schema headcount cascade").await;
    let (status, missing, _) = ready().await;
    assert_eq!((status, missing), (503, json!(["database"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_listen_is_ready_and_says_that_it_is_degraded() {
    let settings = [
        ("HEADCOUNT_LISTENER", "on"),
        ("HEADCOUNT_LISTEN_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
    ];
    let (_deployment, process) = service(&settings, Stdio::inherit()).await;
    let answer = process.user("ann").get("/readyz").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["degraded"]),
        (200, &json!(["listener"])),
        "{}",
        answer.body
    );
    assert_eq!(answer.body["ready"], true);
}
