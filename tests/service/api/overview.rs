//! What operators see: all replicas at once, under the server key only.

use serde_json::{Value, json};

use crate::support::deployment::{Client, Deployment, PATIENCE, start, start_with, tuning};
use crate::wait;

const OVERVIEW: &str = "/v1/admin/overview";

/// Asks until it is so.
async fn until(caller: &Client, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let look = async || Some(caller.get(OVERVIEW).await.ok()).filter(&so);
    wait::until(what, PATIENCE, look).await
}

fn port(deployment: &Deployment, replica: usize) -> String {
    format!(":{}", deployment.replicas[replica].address().port())
}

fn sum(overview: &Value, kind: &str) -> i64 {
    overview["seconds"].as_array().unwrap().iter().map(|second| second[kind].as_i64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_counts_rooms_members_sessions_and_events_per_second() {
    let deployment = start().await;
    deployment.settle().await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    bob.join("lobby").await;
    ann.join("team:1").await;
    bob.leave("lobby").await;
    bob.join("lobby").await;

    let server = deployment.server();
    let overview = until(&server, "all five events are in whole seconds", |o| sum(o, "joined") == 4).await;
    assert_eq!(sum(&overview, "left"), 1);
    assert_eq!([&overview["rooms"], &overview["members"], &overview["sessions"]], [2, 3, 2]);
    let fullest = json!([{"room": "lobby", "count": 2}, {"room": "team:1", "count": 1}]);
    assert_eq!(overview["fullest"], fullest);
    assert_eq!(overview["seconds"].as_array().unwrap().len(), 60);
    assert_eq!(overview["sweep"]["recovering"].as_bool(), Some(false));

    let one = server.get(&format!("{OVERVIEW}?seconds=3&rooms=1")).await.ok();
    assert_eq!(one["seconds"].as_array().unwrap().len(), 3);
    assert_eq!(one["fullest"].as_array().unwrap().len(), 1);
    for query in ["seconds=0", "seconds=121", "rooms=0", "rooms=101", "more=1"] {
        let answer = server.get(&format!("{OVERVIEW}?{query}")).await;
        assert_eq!(answer.problem(), (400, "invalid_query"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_names_the_replicas_that_are_there() {
    let mut deployment = start_with(2, tuning()).await;
    let server = deployment.server();
    let ports = [port(&deployment, 0), port(&deployment, 1)];
    let seen = |overview: &Value, port: &str| {
        let replicas = overview["replicas"].as_array().unwrap();
        replicas.iter().any(|replica| replica["name"].as_str().unwrap().ends_with(port))
    };
    let overview = until(&server, "both are there", |o| ports.iter().all(|port| seen(o, port))).await;
    assert!(overview["here"]["name"].as_str().unwrap().ends_with(&ports[0]));
    assert_eq!(overview["here"]["stale"], false);

    deployment.replicas.pop().unwrap().stop().await;
    until(&server, "one is gone", |o| seen(o, &ports[0]) && !seen(o, &ports[1])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_listen_is_told_from_one_that_does() {
    let mut deaf = tuning();
    deaf.listener = headcount::settings::Switch::Off;
    let mut hearing = tuning();
    hearing.listener = headcount::settings::Switch::On;
    let mut deployment = start_with(1, deaf).await;
    deployment.add(hearing);
    let ports = [port(&deployment, 0), port(&deployment, 1)];
    let listens = |overview: &Value, port: &str| {
        let replicas = overview["replicas"].as_array().unwrap();
        let replica = replicas.iter().find(|replica| replica["name"].as_str().unwrap().ends_with(port));
        replica.and_then(|replica| replica["listening"].as_bool())
    };
    until(&deployment.server(), "one listens", |o| {
        listens(o, &ports[0]) == Some(false) && listens(o, &ports[1]) == Some(true)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_a_part_of_their_id_or_name() {
    let deployment = start().await;
    let server = deployment.server();
    let users = json!([
        {"id": "ann", "name": "Ann Berg"}, {"id": "42", "name": "Jo_ANN%"}, {"id": "bob", "name": "Bob"},
    ]);
    server.send(reqwest::Method::PUT, "/v1/users", &users).await.ok();
    deployment.caller_at(0, server.credential.clone()).join_with("lobby", json!({"user": "ann"})).await.ok();

    let find =
        async |text: &str| server.get(&format!("/v1/admin/users?search={text}")).await.ok()["users"].clone();
    let ids = |users: &Value| -> Vec<String> {
        users.as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect()
    };
    let found = find("ann").await;
    assert_eq!(ids(&found), ["ann", "42"], "the one with that id first");
    assert_eq!(found[0]["name"], "Ann Berg");
    assert_eq!(found[0]["rooms"], json!(["lobby"]));
    assert_eq!([&found[0]["online"], &found[1]["online"]], [true, false]);
    assert_eq!(ids(&find("berg").await), ["ann"]);
    assert_eq!(ids(&find("n%25").await), ["42"], "text, not a pattern");
    assert_eq!(ids(&find("nobody").await), [""; 0]);
    assert_eq!(server.get("/v1/admin/users?search=").await.problem(), (400, "invalid_query"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_is_for_the_server_key_and_the_operators_listener() {
    let apart = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // free a moment ago
    let mut tuning = tuning();
    tuning.operator_listen = Some(apart);
    let mut deployment = start().await;
    deployment.add(tuning);
    let paths = [OVERVIEW, "/v1/admin/users?search=ann"];
    for path in paths {
        assert_eq!(deployment.user("ann").get(path).await.problem(), (403, "server_only"), "{path}");
    }
    let client = deployment.caller_at(1, deployment.server().credential);
    let operator = Client { base: format!("http://{apart}"), ..client.clone() };
    for path in paths.into_iter().chain(["/admin"]) {
        assert_eq!(client.get(path).await.problem(), (404, "not_found"), "{path}");
        operator.get(path).await.ok();
    }
    operator.get("/v1/rooms/lobby").await.ok();
    let kick = operator.post("/v1/rooms/lobby/kick", &json!({"user": "ann"})).await;
    kick.ok();
}
