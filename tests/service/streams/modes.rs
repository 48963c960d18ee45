//! The modes of a stream of rooms: whole lists and counts, besides diffs.

use serde_json::json;

use crate::support::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn list_mode_sends_the_whole_list_and_count_mode_the_count() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut list = ann.watch_path("/v1/rooms/lobby/events?mode=list", None).await;
    let mut count = ann.watch_path("/v1/rooms/lobby/events?mode=count", None).await;
    assert_eq!(list.next().await.unwrap().data["members"], json!([]));
    assert_eq!(count.next().await.unwrap().data["count"], 0);
    ann.join("lobby").await;
    let frame = list.next().await.unwrap();
    assert_eq!((frame.event.as_str(), &frame.data["members"][0]["id"]), ("presence", &json!("ann")));
    let frame = count.next().await.unwrap();
    assert_eq!((frame.event.as_str(), &frame.data["count"]), ("count", &json!(1)));
    assert!(frame.data.get("members").is_none());
}
