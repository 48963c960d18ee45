//! A user whose tokens are revoked is out, at every replica; nobody else notices.

use headcount::auth::Rights;
use headcount::auth::token::seconds_now;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::deployment::{Client, Deployment, PATIENCE, start, start_with, token_of, tuning};
use crate::support::receiver::{Received, Receiver, told};
use crate::support::watcher::Watcher;
use crate::wait::until_so;

const REVOKED: (u16, &str) = (401, "token_revoked");

async fn revoke(server: &Client, user: &str) -> u64 {
    let answer = server.post(&format!("/v1/users/{user}/revoke"), &Value::Null).await.ok();
    let not_before = answer["not_before"].as_str().unwrap();
    headcount::domain::timestamp::parse(not_before).unwrap().unix_timestamp().unsigned_abs()
}

fn issued(deployment: &Deployment, replica: usize, user: &str, iat: Option<u64>) -> Client {
    deployment.caller_at(replica, token_of(user, Rights::everywhere(), iat))
}

async fn until_refused(client: &Client) {
    until_so("the token is refused", PATIENCE, async || {
        client.get("/v1/users/bob").await.problem() == REVOKED
    })
    .await;
}

/// A stream of the room by a ticket.
async fn by_ticket(client: &Client, ticket: &str) -> reqwest::Response {
    let path = format!("{}/v1/rooms/lobby/events?ticket={ticket}", client.base);
    client.http.get(path).send().await.unwrap()
}

async fn ticket(client: &Client) -> String {
    let answer = client.post("/v1/tickets", &json!({"rooms": ["lobby"]})).await.ok();
    answer["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_user_is_served_at_no_replica_and_others_notice_nothing() {
    let deployment = start_with(2, tuning()).await;
    let (here, bob) = (deployment.user("ann"), deployment.user_at(1, "bob"));
    let there = Client { base: bob.base.clone(), ..here.tab() };
    here.join("lobby").await;
    there.join("lobby").await;
    there.join("kitchen").await;
    bob.join("lobby").await;
    let ticket = ticket(&here).await;
    let mut streams = vec![
        here.watch("lobby").await,
        there.watch("lobby").await,
        there.watch_path("/v1/events?rooms=kitchen,lobby", None).await,
        here.watch_path("/v1/users/events?ids=bob", None).await,
        there.watch_path("/v1/users/events?ids=bob", None).await,
        Watcher::new(by_ticket(&there, &ticket).await),
    ];
    let (mut watching, mut following) = (
        bob.watch_path("/v1/events?rooms=kitchen,lobby", None).await,
        bob.watch_path("/v1/users/events?ids=bob", None).await,
    );
    watching.until_members("lobby", &["ann", "bob"]).await;
    for stream in &mut streams {
        stream.until_event("snapshot").await;
    }
    following.until_event("snapshot").await;

    revoke(&deployment.server(), "ann").await;

    // At this replica at once, at the other when it has looked.
    assert_eq!(here.get("/v1/users/bob").await.problem(), REVOKED);
    until_refused(&there).await;
    for stream in &mut streams {
        assert_eq!(stream.until_event("bye").await.data["reason"], "revoked");
    }
    for client in [&here, &there] {
        let calls = [
            client.join_with("lobby", json!({})).await,
            client.post("/v1/join", &client.with(json!({"rooms": ["lobby"]}))).await,
            client.post("/v1/heartbeats", &client.with(json!({}))).await,
            client.update("lobby", json!({"status": "dnd"})).await,
            client.leave_with("lobby", json!({})).await,
            client.post("/v1/tickets", &json!({"rooms": ["lobby"]})).await,
            client.get("/v1/rooms/lobby").await,
            client.get("/v1/rooms/lobby/events").await,
            client.get("/v1/users/events?ids=bob").await,
        ];
        assert!(calls.iter().all(|answer| answer.problem() == REVOKED));
        assert_eq!(by_ticket(client, &ticket).await.status(), 401);
    }

    assert_eq!(deployment.log("lobby").await, ["joined ann", "joined bob", "left ann kicked"]);
    assert_eq!(deployment.log("kitchen").await, ["joined ann", "left ann kicked"]);
    assert_eq!(deployment.value("select count(*) from headcount.presence where user_id = 'ann'").await, 0);
    watching.until_members("lobby", &["bob"]).await;
    assert_eq!(bob.beat(json!({})).await, "alive");
    // Their streams go on: they hear what happens next.
    bob.join("kitchen").await;
    watching.until_members("kitchen", &["bob"]).await;
    assert_eq!(following.until_event("updated").await.data["rooms"], json!(["kitchen", "lobby"]));
    assert!([&watching, &following].iter().all(|stream| stream.heard.iter().all(|f| f.event != "bye")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_again_from_the_second_that_the_answer_names() {
    let deployment = start().await;
    let not_before = revoke(&deployment.server(), "ann").await;
    assert!(not_before > seconds_now() - 10);
    let answers =
        async |iat| issued(&deployment, 0, "ann", iat).get("/v1/users/ann/presence").await.status.as_u16();
    assert_eq!(answers(Some(not_before - 1)).await, 401, "of the same second: it may be older");
    assert_eq!(answers(None).await, 401, "it may be older");
    assert_ne!(answers(Some(not_before)).await, 401);
    let other = issued(&deployment, 0, "bob", None);
    assert_ne!(
        other.get("/v1/users/ann/presence").await.status.as_u16(),
        401,
        "of somebody who was never revoked"
    );
    // Once more is later, and never earlier.
    assert!(revoke(&deployment.server(), "ann").await >= not_before);
}

/// What a replica does that has not heard of it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_by_a_revoked_token_is_refused_where_the_replica_does_not_know_yet() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    // It changes no counter, so no replica reads it.
    deployment.execute("alter table headcount.revocations disable trigger access_changed").await;
    deployment.execute("select headcount.revoke('ann')").await;
    let old = ann.tab();
    assert_eq!(old.join_with("lobby", json!({})).await.problem(), REVOKED);
    let many = old.post("/v1/join", &old.with(json!({"rooms": ["lobby"]}))).await.ok();
    assert_eq!(many["rooms"][0]["problem"]["code"], "token_revoked");
    issued(&deployment, 0, "ann", Some(seconds_now() + 5)).join("lobby").await;
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann kicked", "joined ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_revokes_in_its_own_transaction() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let revoking = sqlx::raw_sql(
        "begin; create role an_application; select headcount.grant_to_application('an_application'); \
         set local role an_application; select headcount.revoke('ann'); \
         reset role; drop owned by an_application; drop role an_application; commit",
    );
    revoking.execute(&mut deployment.database.connect().await).await.unwrap();
    until_refused(&ann).await;
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann kicked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_told_that_a_revoked_user_was_kicked() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let server = deployment.server();
    let hook = json!({"url": receiver.url(), "secrets": [super::access::WEBHOOK_SECRET]});
    server.send(Method::PUT, "/v1/webhooks/hook", &hook).await.ok();
    deployment.user("ann").join("lobby").await;
    revoke(&server, "ann").await;
    let kicked = |got: &[Received]| told(got).iter().any(|event| event.to_string().contains("kicked"));
    receiver.until("the kick", kicked).await;
}
