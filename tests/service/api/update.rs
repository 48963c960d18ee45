//! An update of a member: one event, or none where it shows nothing new.

use serde_json::json;

use crate::support::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_one_updated_and_shows_the_most_present_session() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let phone = ann.tab();
    ann.join("lobby").await;
    phone.join_with("lobby", json!({"status": "idle"})).await.ok();
    let answer = ann.update("lobby", json!({"status": "dnd", "state": {"typing": true}})).await.ok();
    assert_eq!(
        (&answer["member"]["status"], &answer["member"]["state"]),
        (&json!("dnd"), &json!({"typing": true}))
    );
    ann.update("lobby", json!({"status": "dnd"})).await.ok(); // shows nothing new
    assert_eq!(deployment.log("lobby").await, ["joined ann", "updated ann"]);
    ann.leave("lobby").await;
    let roster = phone.roster("lobby").await;
    assert_eq!(roster["members"][0]["status"], "idle");
}
