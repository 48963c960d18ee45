//! What webhooks are told: everything, once or again with the same id, in order in each room, whatever breaks; signed; and
//! not what a delay takes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use sqlx::ConnectOptions;

use super::{SECRET, hook, state, until};
use crate::support::deployment::{Answer, Client, Deployment, SERVER_KEY, start, start_with, tuning};
use crate::support::process::serve_with;
use crate::support::receiver::{Manner, Receiver, brief, lines, repeats, told};

const OTHER_SECRET: &str = "whsec_VGhlIG90aGVyIHNlY3JldCBvZiB0aGUgdGVzdHM=";

async fn until_nothing_is_pending(server: &Client) {
    until(server, "nothing pending", |state| state["delivery"]["pending_events"] == 0).await;
}

/// The log of every room, as lines `version kind user`.
async fn logged(deployment: &Deployment) -> BTreeMap<String, Vec<String>> {
    let query = "select room_id, concat_ws(' ', version, kind, user_id) from headcount.events order by room_id, version";
    let rows: Vec<(String, String)> =
        sqlx::query_as(query).fetch_all(&mut deployment.database.connect().await).await.unwrap();
    let mut rooms: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (room, line) in rows {
        rooms.entry(room).or_default().push(line);
    }
    rooms
}

/// What came is what the log says, each room's in its order.
async fn assert_complete(deployment: &Deployment, receiver: &Receiver) {
    let logged = logged(deployment).await;
    let wanted: usize = logged.values().map(Vec::len).sum();
    let whole = |got: &[_]| lines(&told(got)).values().map(Vec::len).sum::<usize>() >= wanted;
    let got = receiver.until(&format!("all {wanted} events"), whole).await;
    assert_eq!(lines(&told(&got)), logged);
    assert!(got.iter().all(|message| message.is_signed_with(SECRET)));
}

/// A machine with much to do may answer `room_busy`: nothing was done, and a client comes again.
async fn patiently(call: impl AsyncFn() -> Answer) {
    while call().await.status == StatusCode::SERVICE_UNAVAILABLE {}
}

/// Many users come and go in many rooms, at every replica.
async fn bustle(deployment: &Deployment, rooms: usize, rounds: usize) {
    let coming_and_going = (0..rooms * 2).map(|n| {
        let user = deployment.user_at(n % deployment.replicas.len(), &format!("user{n}"));
        async move {
            for round in 0..rounds {
                let room = format!("room{}", (n + round) % rooms);
                patiently(async || user.join_with(&room, json!({})).await).await;
                let change = json!({"status": "dnd", "state": {"round": round}});
                patiently(async || user.update(&room, change.clone()).await).await;
                patiently(async || user.leave_with(&room, json!({})).await).await;
            }
        }
    });
    futures_util::future::join_all(coming_and_going).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_with_what_it_was_about() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let server = deployment.server();
    hook(&server, &receiver, json!({})).await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    let cursor = ann.join("lobby").await["cursor"].clone();
    ann.tab().join("lobby").await; // two tabs are one member
    bob.join("lobby").await;
    ann.update("lobby", json!({"status": "dnd", "state": {"seat": 4}})).await.ok();
    server.post("/v1/rooms/lobby/kick", &json!({"user": "ann"})).await.ok();
    bob.leave("lobby").await;
    let told = receiver.until_told(7).await;
    assert_eq!(
        brief(&told),
        [
            "member.joined lobby ann 1",
            "room.occupied lobby 1",
            "member.joined lobby bob 2",
            "member.updated lobby ann 2",
            "member.left lobby ann kicked 1",
            "member.left lobby bob left 0",
            "room.vacated lobby 0",
        ]
    );
    assert_eq!(told[0]["cursor"], cursor);
    assert_eq!(told[0]["member"]["name"], "The ann");
    assert_eq!(told[3]["member"]["state"], json!({"seat": 4}));
    assert!(told[1].get("user").is_none() && told[4].get("member").is_none());
    let at = "select floor(extract(epoch from at) * 1000)::bigint from headcount.events where version = 1";
    let at_ms = deployment.value(at).await % 1000;
    assert!(told[0]["at"].as_str().unwrap().ends_with(&format!(".{at_ms:03}Z")), "{}", told[0]["at"]);
    until_nothing_is_pending(&server).await;
    assert_complete(&deployment, &receiver).await;
    assert_eq!(state(&server).await["delivery"]["accepted_events"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_is_told() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let server = deployment.server();
    hook(
        &server,
        &receiver,
        json!({"types": ["room.occupied", "room.vacated"], "rooms": ["team:*", "hall"]}),
    )
    .await;
    let ann = deployment.user("ann");
    for room in ["lobby", "team:1", "hall", "hallway"] {
        ann.join(room).await;
        ann.leave(room).await;
    }
    let told = receiver.until_told(4).await;
    until_nothing_is_pending(&server).await;
    let mut lines = brief(&told);
    lines.sort();
    let wanted =
        ["room.occupied hall 1", "room.occupied team:1 1", "room.vacated hall 0", "room.vacated team:1 0"];
    assert_eq!(lines, wanted);
    assert_eq!(receiver.received().iter().flat_map(|got| got.events().to_vec()).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_room_keeps_its_order_while_two_replicas_write_to_many() {
    let (deployment, receiver) = (start_with(2, tuning()).await, Receiver::start().await);
    hook(&deployment.server(), &receiver, json!({})).await;
    bustle(&deployment, 20, 8).await;
    assert_complete(&deployment, &receiver).await;
    assert_eq!(repeats(&receiver.received()), 0, "nothing broke, so nothing came twice");
}

/// With `HEADCOUNT_WEBHOOK_OUTAGE_S=120` it takes that long, and tells what it saw.
#[expect(clippy::print_stdout, reason = "the record of a longer one")]
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_killed_for_a_while_misses_nothing() {
    let (deployment, mut receiver) = (start_with(2, tuning()).await, Receiver::start().await);
    let server = deployment.server();
    hook(&server, &receiver, json!({})).await;
    bustle(&deployment, 10, 2).await;
    receiver.until_told(10).await;
    receiver.kill().await;
    let from = Instant::now();
    let outage = std::env::var("HEADCOUNT_WEBHOOK_OUTAGE_S").ok().map(|text| text.parse().unwrap());
    let outage = Duration::from_secs(outage.unwrap_or(0));
    loop {
        bustle(&deployment, 10, 3).await;
        if from.elapsed() >= outage && state(&server).await["delivery"]["attempts"].as_i64() >= Some(3) {
            break;
        }
    }
    let behind = state(&server).await;
    assert!(behind["delivery"]["pending_events"].as_i64() >= Some(100), "{behind}");
    assert!(behind["delivery"]["lag_ms"].as_i64() >= Some(2000), "{behind}");
    let error = behind["delivery"]["last_error"].as_str().unwrap();
    assert!(error.contains("Connection refused"), "{error}");
    receiver.revive();
    let revived = Instant::now();
    bustle(&deployment, 10, 1).await;
    while !outage.is_zero() && state(&server).await["delivery"]["pending_events"] != 0 {} // the next attempt may be far
    assert_complete(&deployment, &receiver).await;
    let events: usize = logged(&deployment).await.values().map(Vec::len).sum();
    println!(
        "away for {:?}, {} behind after {} attempts; all {events} there {:?} later, {} of them twice",
        revived - from,
        behind["delivery"]["pending_events"],
        behind["delivery"]["attempts"],
        revived.elapsed(),
        repeats(&receiver.received()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_accepted_comes_again_the_same_before_anything_later() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    hook(&deployment.server(), &receiver, json!({})).await;
    receiver.set(Manner::Status(503));
    deployment.user("ann").join("lobby").await;
    receiver.until("a first attempt", |got| !got.is_empty()).await;
    deployment.user("bob").join("lobby").await;
    let got = receiver.until("a second attempt", |got| got.len() >= 2).await;
    assert_eq!((&got[0].id, &got[0].body), (&got[1].id, &got[1].body));
    receiver.set(Manner::Status(302)); // which is not followed
    receiver.until("a third attempt", |got| got.len() >= 3).await;
    receiver.set(Manner::Endless);
    let got = receiver.until("what is later", |got| brief(&told(got)).len() >= 3).await;
    assert!(got.iter().filter(|message| message.id == got[0].id).count() >= 4);
    assert_eq!(
        brief(&told(&got)),
        ["member.joined lobby ann 1", "room.occupied lobby 1", "member.joined lobby bob 2"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_while_it_delivers_is_replaced_within_seconds() {
    let (deployment, receiver) = (start_with(0, tuning()).await, Receiver::start().await);
    let url = deployment.database.service.to_url_lossy().to_string();
    let processes = [serve_with(&url, &[]), serve_with(&url, &[])];
    let at = |n: usize| Client { credential: SERVER_KEY.to_owned(), ..processes[n].user("-") };
    hook(&at(0), &receiver, json!({})).await;
    receiver.set(Manner::Never);
    processes[0].user("ann").join("lobby").await;
    receiver.until("a message", |got| got.len() == 1).await;
    let replica = state(&at(0)).await["delivery"]["replica"].as_str().unwrap().to_owned();
    let mut processes = Vec::from(processes);
    let port = replica.rsplit_once(':').unwrap().1;
    let busy = processes.iter().position(|process| process.address.ends_with(&format!(":{port}"))).unwrap();
    let mut killed = processes.remove(busy);
    killed.child.kill().unwrap(); // SIGKILL
    let from = Instant::now();
    processes[0].user("bob").join("lobby").await;
    let got = receiver.until("the message again", |got| got.len() == 2).await;
    assert!(from.elapsed() < Duration::from_secs(8), "{:?}", from.elapsed());
    assert_eq!((&got[0].id, &got[0].body), (&got[1].id, &got[1].body));
    receiver.set(Manner::Status(204));
    assert_complete(&deployment, &receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_longer_than_a_lease_is_sent_a_message_once() {
    let (deployment, receiver) = (start_with(2, tuning()).await, Receiver::start().await);
    let server = deployment.server();
    hook(&server, &receiver, json!({})).await;
    receiver.set(Manner::Never);
    deployment.user("ann").join("lobby").await;
    receiver.until("a message", |got| !got.is_empty()).await;
    let from = Instant::now();
    let longer = Duration::from_secs(7); // a lease is 5 s, an attempt 10 s
    until(&server, "7 s", |_| from.elapsed() > longer).await;
    receiver.set(Manner::Status(200));
    until(&server, "accepted", |state| state["delivery"]["accepted_events"] == 2).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_within_the_delay_was_never_gone() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let server = deployment.server();
    hook(&server, &receiver, json!({"leave_delay_ms": 3000})).await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    receiver.until_told(2).await;
    ann.leave("lobby").await;
    ann.join("lobby").await;
    ann.leave("lobby").await;
    ann.join("lobby").await; // the room was empty twice, too
    until_nothing_is_pending(&server).await;
    bob.join("lobby").await;
    assert_eq!(brief(&receiver.until_told(3).await)[2], "member.joined lobby bob 2");
    let from = Instant::now();
    ann.leave("lobby").await;
    bob.update("lobby", json!({"status": "dnd"})).await.ok();
    let told = receiver.until_told(5).await;
    assert!(from.elapsed() >= Duration::from_secs(3), "{:?}", from.elapsed());
    assert_eq!(brief(&told)[3..], ["member.left lobby ann left 1", "member.updated lobby bob 1"]);
    assert_eq!(deployment.log("lobby").await.len(), 8, "the log knows of all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_empty_for_less_than_the_delay_was_not_vacated() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let server = deployment.server();
    hook(&server, &receiver, json!({"leave_delay_ms": 1500})).await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    ann.leave("lobby").await;
    bob.join("lobby").await;
    let told = receiver.until_told(4).await;
    let wanted = [
        "member.joined lobby ann 1",
        "room.occupied lobby 1",
        "member.left lobby ann left 0",
        "member.joined lobby bob 1",
    ];
    assert_eq!(brief(&told), wanted);
    bob.leave("lobby").await;
    assert_eq!(
        brief(&receiver.until_told(6).await)[4..],
        ["member.left lobby bob left 0", "room.vacated lobby 0"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_is_told_nothing_more_until_an_operator_says_so() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let (server, ann) = (deployment.server(), deployment.user("ann"));
    hook(&server, &receiver, json!({})).await;
    receiver.set(Manner::Status(410));
    ann.join("lobby").await;
    let state = until(&server, "disabled", |state| state["enabled"] == false).await;
    assert_eq!(
        (&state["disabled_reason"], &state["delivery"]["pending_events"]),
        (&json!("gone"), &json!(0))
    );
    receiver.set(Manner::Status(204));
    ann.leave("lobby").await;
    let written = "select count(*) from headcount.webhook_outbox";
    assert_eq!(deployment.value(written).await, 0, "nobody is told: nothing is collected");
    hook(&server, &receiver, json!({})).await;
    ann.join("hall").await;
    let told = receiver.until("what came after", |got| got.len() >= 2).await[1].events().to_vec();
    assert_eq!(brief(&told), ["member.joined hall ann 1", "room.occupied hall 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_secret_replaces_another_both_sign() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let (server, ann) = (deployment.server(), deployment.user("ann"));
    let mut signed = Vec::new();
    for (n, secrets) in
        [json!([SECRET]), json!([OTHER_SECRET, SECRET]), json!([OTHER_SECRET])].into_iter().enumerate()
    {
        hook(&server, &receiver, json!({"secrets": secrets})).await;
        ann.join(&format!("room{n}")).await;
        let message = receiver.until("a message", |got| got.len() > n).await.remove(n);
        signed.push([SECRET, OTHER_SECRET].map(|secret| message.is_signed_with(secret)));
        assert_eq!(message.signature.split(' ').count(), secrets.as_array().unwrap().len());
    }
    assert_eq!(signed, [[true, false], [true, true], [false, true]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_in_the_log_is_announced() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let (server, ann, bob) = (deployment.server(), deployment.user("ann"), deployment.user("bob"));
    hook(&server, &receiver, json!({"types": ["member.joined", "room.vacated"]})).await;
    receiver.set(Manner::Status(500));
    ann.join("hall").await;
    until(&server, "an attempt", |state| state["delivery"]["attempts"].as_i64() > Some(0)).await;
    ann.join("lobby").await;
    bob.join("lobby").await;
    ann.leave("lobby").await;
    deployment
        .until("select exists (select from headcount.webhook_rooms where room_id = 'lobby' and head = 3)")
        .await;
    deployment.execute("delete from headcount.events where room_id = 'lobby'").await;
    receiver.set(Manner::Status(204));
    let told = receiver.until_told(2).await;
    let gap = &told[1];
    assert_eq!(
        (&gap["type"], &gap["room"], &gap["missing"]),
        (&json!("log.gap"), &json!("lobby"), &json!(3))
    );
    assert_eq!(gap["cursor"], server.roster("lobby").await["cursor"], "where to go on from");
    bob.leave("lobby").await;
    assert_eq!(brief(&receiver.until_told(3).await)[2], "room.vacated lobby 0", "it counts on from what is");
}
