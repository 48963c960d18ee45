//! `/v1/diagnostics/stream`, by which a client tries what is between it and a replica.

use crate::support::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn the_test_of_the_line_keeps_its_timetable() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut watcher = ann.watch_path("/v1/diagnostics/stream?silence_ms=300", None).await;
    let mut sent = Vec::new();
    while let Some(frame) = watcher.next().await {
        sent.push((frame.event, frame.data["n"].as_u64().unwrap(), frame.data["sent_ms"].as_u64().unwrap()));
    }
    let names: Vec<&str> = sent.iter().map(|(event, ..)| event.as_str()).collect();
    assert_eq!(names, ["tick", "tick", "tick", "tick", "tick", "end"]);
    for ((_, n, at), due) in sent.iter().zip([0, 250, 500, 750, 1000, 1300]) {
        assert!(*at >= due, "{n} was sent at {at}, before {due}");
    }
    let nobody = deployment.caller_at(0, "nonsense".to_owned());
    assert_eq!(nobody.get("/v1/diagnostics/stream").await.problem(), (401, "invalid_token"));
    let long = ann.get("/v1/diagnostics/stream?silence_ms=60001").await;
    assert_eq!(long.problem(), (400, "invalid_query"));
}
