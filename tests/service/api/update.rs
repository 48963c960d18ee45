//! An update of a member: one event, or none where it shows nothing new.

use serde_json::json;

use crate::support::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_one_updated_and_shows_what_was_said_most_explicitly() {
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
    assert_eq!(deployment.log("lobby").await, ["joined ann", "updated ann", "updated ann"]);
    ann.leave("lobby").await;
    let roster = phone.roster("lobby").await;
    assert_eq!(roster["members"][0]["status"], "idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_does_not_lose_to_a_tab_that_says_nothing() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    let (phone, silent) = (ann.tab(), ann.tab());
    let shown = async || {
        let here = ann.roster("lobby").await["members"][0]["status"].clone();
        let anywhere = server.get("/v1/users/ann/presence").await.ok()["status"].clone();
        assert_eq!(here, anywhere);
        here
    };
    silent.join("lobby").await;
    assert_eq!(shown().await, "online", "nobody said anything");
    ann.join_with("lobby", json!({"status": "idle"})).await.ok();
    assert_eq!(shown().await, "idle");
    phone.join_with("lobby", json!({"status": "online"})).await.ok();
    assert_eq!(shown().await, "online", "said, too");
    ann.update("lobby", json!({"status": "dnd"})).await.ok();
    assert_eq!(shown().await, "dnd");
    silent.beat(json!({"active": true})).await;
    silent.join("lobby").await;
    assert_eq!(shown().await, "dnd");
    silent.join("kitchen").await;
    assert_eq!(server.get("/v1/users/ann/presence").await.ok()["status"], "dnd");
}
