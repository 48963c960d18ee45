//! Invisible members: seen by themselves and the server key, and by nobody else, in nothing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::database::law;
use crate::support::deployment::{Client, start, start_with, tuning};

const HIDDEN: &str = "/v1/users/ann/presence";

fn unseen() -> Value {
    json!({"id": "ann", "online": false, "status": null, "rooms": [], "last_seen": null})
}

fn ids(roster: &Value) -> Vec<&str> {
    roster["members"].as_array().unwrap().iter().map(|member| member["id"].as_str().unwrap()).collect()
}

async fn tag(client: &Client, path: &str) -> String {
    let response = client.request(Method::GET, path).send().await.unwrap();
    response.headers()["etag"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invisible_member_is_in_no_roster_count_event_or_presence_of_others() {
    let deployment = start_with(2, tuning()).await;
    let (ann, bob) = (deployment.user("ann"), deployment.user_at(1, "bob"));
    bob.join("lobby").await;
    let mut watcher = bob.watch("lobby").await;
    let mut counter = bob.watch_path("/v1/rooms/lobby/events?mode=count", None).await;
    watcher.until_members("lobby", &["bob"]).await;
    assert_eq!(counter.until_event("count").await.data["count"], 1);
    let mut early = bob.watch("lobby").await;
    early.until_members("lobby", &["bob"]).await;
    let before = bob.roster("lobby").await;
    let joined = ann.join_with("lobby", json!({"invisible": true, "state": {"n": 1}})).await.ok();
    assert_eq!((&joined["created"], &joined["member"]["invisible"]), (&json!(false), &json!(true)));
    ann.update("lobby", json!({"status": "dnd"})).await.ok();
    ann.send(Method::PUT, "/v1/users/ann", &json!({"name": "Ann"})).await.ok();
    assert_eq!(bob.roster("lobby").await, before, "nothing happened here");
    assert_eq!(bob.get(HIDDEN).await.ok(), unseen());
    ann.leave("lobby").await;
    assert_eq!(bob.get(HIDDEN).await.ok(), unseen(), "nor was she ever there");
    assert_eq!(deployment.log("lobby").await, ["joined bob"]);
    // The next that watchers hear is of somebody else.
    deployment.user("eve").join("lobby").await;
    watcher.until_members("lobby", &["bob", "eve"]).await;
    assert!(watcher.heard.iter().all(|frame| !frame.data.to_string().contains("ann")));
    assert_eq!(counter.until_event("count").await.data["count"], 2);
    let mut replay = bob.watch_from("lobby", before["cursor"].as_str().unwrap()).await.after(early);
    assert_eq!(replay.until_event("diff").await.data["joined"][0]["id"], "eve");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hides_leaves_for_others_and_who_shows_themselves_joins() {
    let deployment = start().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    let mut watcher = bob.watch("lobby").await;
    let first = ann.join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    let hidden = ann.update("lobby", json!({"invisible": true})).await.ok();
    assert_eq!(hidden["member"]["invisible"], true);
    watcher.until_members("lobby", &[]).await;
    assert_eq!(ann.beat(json!({})).await, "alive");
    ann.update("lobby", json!({"status": "dnd"})).await.ok(); // stays as it was
    let shown = ann.join_with("lobby", json!({"invisible": false})).await.ok();
    assert_eq!(shown["created"], true);
    watcher.until_members("lobby", &["ann"]).await;
    let member = &watcher.rosters["lobby"]["ann"];
    assert_eq!((&member["status"], &member["invisible"]), (&json!("dnd"), &json!(null)));
    assert!(member["joined_at"].as_str() > first["member"]["joined_at"].as_str(), "since when she is seen");
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann left", "joined ann"]);
    law::assert_lawful(&mut deployment.database.connect().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visible_session_shows_its_user_and_says_nothing_of_the_invisible_one() {
    let deployment = start().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    let hidden = ann.tab();
    let early = hidden.join_with("lobby", json!({"invisible": true, "state": {"secret": 1}})).await.ok();
    deployment.execute("update headcount.memberships set joined_at = joined_at - interval '1 h'").await;
    ann.join("lobby").await;
    let roster = bob.roster("lobby").await;
    let member = &roster["members"][0];
    assert_eq!((&roster["count"], &member["sessions"], &member["state"]), (&json!(1), &json!(1), &json!({})));
    let since = "that she was there before is not told";
    assert!(member["joined_at"].as_str() > early["member"]["joined_at"].as_str(), "{since}");
    // She sees herself as others do, for as long as they do.
    assert_eq!(hidden.roster("lobby").await["members"][0]["invisible"], json!(null));
    ann.leave("lobby").await;
    assert_eq!(ids(&bob.roster("lobby").await), Vec::<&str>::new());
    assert_eq!(hidden.roster("lobby").await["members"][0]["invisible"], true);
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann left"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_and_the_server_key_see_who_is_invisible_and_their_tags_tell_it() {
    let deployment = start().await;
    let (ann, bob, server) = (deployment.user("ann"), deployment.user("bob"), deployment.server());
    for user in ["a", "b", "c"] {
        deployment.user(user).join("lobby").await;
    }
    let plain = tag(&bob, "/v1/rooms/lobby").await;
    assert_eq!(tag(&server, "/v1/rooms/lobby").await, plain, "while there is nobody to hide");
    ann.join_with("lobby", json!({"invisible": true})).await.ok();
    for who in [&ann, &server] {
        let roster = who.roster("lobby").await;
        assert_eq!((&roster["count"], ids(&roster)), (&json!(4), vec!["a", "ann", "b", "c"]));
        assert_eq!(roster["members"][1]["invisible"], true);
        let page = who.get("/v1/rooms/lobby?limit=2&after=a").await.ok();
        assert_eq!((ids(&page), &page["next"]), (vec!["ann", "b"], &json!("b")));
        let before = tag(who, "/v1/rooms/lobby").await;
        assert_ne!(before, plain);
        ann.update("lobby", json!({"state": {"who": who.credential}})).await.ok();
        assert_ne!(tag(who, "/v1/rooms/lobby").await, before);
        let presence = who.get(HIDDEN).await.ok();
        assert_eq!((&presence["online"], &presence["rooms"]), (&json!(true), &json!(["lobby"])));
        assert!(presence["last_seen"].is_string());
    }
    assert_eq!(
        (bob.roster("lobby").await["count"].clone(), tag(&bob, "/v1/rooms/lobby").await),
        (json!(3), plain)
    );
    // Streams show the same to everybody.
    let mut watcher = server.watch("lobby").await;
    watcher.until_members("lobby", &["a", "b", "c"]).await;
    deployment.user("cat").join_with("den", json!({"invisible": true})).await.ok();
    assert_eq!(server.get("/v1/rooms?prefix=den").await.ok()["rooms"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invisible_session_expires_leaves_and_is_kicked_without_an_event() {
    let deployment = start().await;
    deployment.settle().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    bob.join("lobby").await;
    for _ in 0..3 {
        ann.tab().join_with("lobby", json!({"invisible": true})).await.ok();
    }
    deployment
        .execute("update headcount.presence set last_seen = last_seen - interval '1 h' where user_id = 'ann'")
        .await;
    deployment.until("select count(*) = 1 from headcount.presence").await;
    ann.join_with("lobby", json!({"invisible": true})).await.ok();
    ann.leave_with("lobby", json!({"grace": true})).await.ok();
    deployment.execute("update headcount.memberships set leaving_at = leaving_at - interval '1 min'").await;
    deployment.until("select count(*) = 1 from headcount.presence").await;
    ann.join_with("lobby", json!({"invisible": true})).await.ok();
    deployment.server().post("/v1/rooms/lobby/kick", &json!({"user": "ann"})).await.ok();
    assert_eq!(ann.beat(json!({})).await, "gone");
    assert_eq!(bob.get(HIDDEN).await.ok(), unseen());
    assert_eq!(deployment.log("lobby").await, ["joined bob"]);
    law::assert_lawful(&mut deployment.database.connect().await).await;
}
