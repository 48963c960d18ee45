//! Questions about the past over HTTP. What the answers mean is compared with a model in `tests/model` and by hand in
//! `tests/sql`; here is how they are asked and told.

use headcount::auth::{Grant, Right, Rights};
use serde_json::{Value, json};

use crate::support::deployment::{Client, Deployment, start, start_with, token, tuning};

/// The database's clock, now.
async fn now(deployment: &Deployment) -> String {
    let clock = r#"select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
    sqlx::query_scalar(clock).fetch_one(&mut deployment.database.connect().await).await.unwrap()
}

async fn ask(client: &Client, question: &str) -> Value {
    client.get(&format!("/v1/rooms/lobby/history/{question}")).await.ok()
}

fn column(rows: &Value, name: &str) -> Vec<String> {
    let text = |row: &Value| row[name].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_tells_who_was_there_and_how_many() {
    let deployment = start().await;
    let (ann, bob, server) = (deployment.user("ann"), deployment.user("bob"), deployment.server());
    let empty = now(&deployment).await;
    ann.join_with("lobby", json!({"status": "dnd", "state": {"n": 1}})).await.ok();
    bob.join("lobby").await;
    let both = now(&deployment).await;
    ann.update("lobby", json!({"status": "online"})).await.ok();
    ann.leave("lobby").await;

    let then = ask(&server, &format!("members?at={both}")).await;
    assert_eq!(column(&then["members"], "id"), ["ann", "bob"]);
    assert_eq!([&then["room"], &then["count"], &then["next"]], [&json!("lobby"), &json!(2), &json!(null)]);
    assert!(then["cursor"].as_str().unwrap().ends_with(".2"), "{then}");
    assert_eq!(then["at"], json!(format!("{}Z", &both[..23])));
    let known = &then["members"][0];
    assert_eq!(
        [&known["name"], &known["status"], &known["state"], &known["exact"]],
        [&json!("The ann"), &json!("dnd"), &json!({"n": 1}), &json!(true)]
    );
    assert_eq!(ask(&server, &format!("members?at={empty}")).await["count"], 0);
    let last = ask(&server, &format!("members?at={}", now(&deployment).await)).await;
    assert_eq!(column(&last["members"], "id"), ["bob"]);

    let first = ask(&server, &format!("members?at={both}&limit=1")).await;
    assert_eq!([&first["count"], &first["next"]], [&json!(2), &json!("ann")]);
    let second = ask(&server, &format!("members?at={both}&limit=2&after=ann")).await;
    assert_eq!(column(&second["members"], "id"), ["bob"]);
    assert_eq!(second["next"], json!(null));

    let crowd = ask(&server, &format!("occupancy?from={empty}&bucket=1d")).await;
    assert_eq!(crowd["peak"]["count"], 2);
    assert!(crowd["peak"]["at"].as_str().unwrap() <= both.as_str());
    assert_eq!(crowd["buckets"].as_array().unwrap().len(), 1);
    assert_eq!(crowd["buckets"][0], json!({"at": crowd["from"], "count": 2}));
    assert_eq!(crowd["from"], crowd["complete_from"]);
    let later = ask(&server, &format!("occupancy?from={}&bucket=1s", now(&deployment).await)).await;
    assert_eq!(later["peak"]["count"], 1);
}

/// The day so many days ago.
async fn day(deployment: &Deployment, ago: i32) -> String {
    let day = "select to_char((clock_timestamp() at time zone 'UTC')::date - $1, 'YYYY-MM-DD')";
    sqlx::query_scalar(day).bind(ago).fetch_one(&mut deployment.database.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attendance_is_by_user_and_day() {
    let mut tuning = tuning();
    tuning.retention *= 30;
    let deployment = start_with(1, tuning).await;
    let server = deployment.server();
    let (before, first, second) =
        (day(&deployment, 11).await, day(&deployment, 10).await, day(&deployment, 9).await);
    deployment
        .execute(
            "with first as (select ((clock_timestamp() at time zone 'UTC')::date - 10)::timestamp at time zone 'UTC' as day), \
             since as (update headcount.log_state set complete_from = day from first) \
             insert into headcount.events (room_id, version, kind, user_id, member, reason, at) \
             select 'lobby', e.version, e.kind, e.user_id, null, e.reason, day + e.at \
             from first, (values \
                 (1, 'joined', 'ann', null, interval '20 h'), (2, 'joined', 'b.b', null, '23 h'), \
                 (3, 'left', 'ann', 'left', '25 h'), (4, 'left', 'b.b', 'left', '24.5 h') \
             ) e (version, kind, user_id, reason, at)",
        )
        .await;
    let days = format!("attendance?from={first}T00:00:00Z&to={second}T23:00:00Z");
    let row = |user: &str, day: &str, minutes: f64| json!({"user": user, "day": day, "minutes": minutes});
    let all = [
        row("ann", &first, 240.0),
        row("ann", &second, 60.0),
        row("b.b", &first, 60.0),
        row("b.b", &second, 30.0),
    ];
    let whole = ask(&server, &days).await;
    assert_eq!(whole["rows"], json!(all));
    assert_eq!(whole["complete_from"], format!("{first}T00:00:00.000Z"));
    let mut paged = Vec::new();
    let mut page = ask(&server, &format!("{days}&limit=1")).await;
    while let Some(next) = page["next"].as_str() {
        paged.extend(page["rows"].as_array().unwrap().clone());
        page = ask(&server, &format!("{days}&limit=1&after={next}")).await;
    }
    assert_eq!(paged, all);
    assert_eq!(ask(&server, &format!("{days}&user=b.b")).await["rows"], json!(all[2..]));
    let east = ask(&server, &format!("{days}&tz=Etc/GMT-1&user=ann")).await;
    assert_eq!(east["rows"], json!([row("ann", &first, 180.0), row("ann", &second, 120.0)]));
    let range = format!("attendance?from={before}T00:00:00%2B01:00&to={first}T21:00:00Z");
    let earlier = ask(&server, &range).await;
    assert_eq!(earlier["rows"], json!([row("ann", &first, 60.0)]));
    assert_eq!(earlier["complete_from"], format!("{first}T00:00:00.000Z"));
    assert!(earlier["from"].as_str().unwrap() < before.as_str(), "{earlier}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_does_not_tell_has_a_code_of_its_own() {
    let deployment = start().await;
    let server = deployment.server();
    deployment.execute("update headcount.log_state set complete_from = '2026-03-01T00:00:00.0001Z'").await;
    for question in [
        "members?at=2026-02-28T00:00:00Z",
        "attendance?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z",
        "occupancy?to=2026-02-01T00:00:00Z",
    ] {
        let answer = server.get(&format!("/v1/rooms/lobby/history/{question}")).await;
        assert_eq!(answer.problem(), (410, "history_gone"), "{question}");
        assert_eq!(answer.body["detail"], "The log is complete since 2026-03-01T00:00:00.001Z.");
    }
    ask(&server, "members?at=2026-03-01T00:00:00.001Z").await;
    ask(&server, "members?at=2026-03-01T00:00:00.001+00:00").await; // a plus sign that is not escaped
    for question in [
        "members",
        "members?at=yesterday",
        "members?at=2099-01-01T00:00:00Z",
        "members?at=2026-03-02T00:00:00Z&limit=0",
        "members?at=2026-03-02T00:00:00Z&limit=1001",
        "members?at=2026-03-02T00:00:00Z&after=%00",
        "members?at=2026-03-02T00:00:00Z&more=1",
        "attendance?from=2026-03-03T00:00:00Z&to=2026-03-02T00:00:00Z",
        "attendance?from=2099-01-01T00:00:00Z",
        "attendance?tz=Mars/Olympus",
        "attendance?tz=%27",
        "attendance?user=",
        "attendance?after=ann",
        "attendance?after=2026-03-01.%00",
        "attendance?limit=1001",
        "occupancy?bucket=0s",
        "occupancy?bucket=1",
        "occupancy?bucket=1w",
        "occupancy?bucket=%C3%A9",
        "occupancy?from=2026-03-01T00:00:00Z&bucket=1s",
    ] {
        let answer = server.get(&format!("/v1/rooms/lobby/history/{question}")).await;
        assert_eq!(answer.problem(), (400, "invalid_query"), "{question}: {}", answer.body);
    }
    assert_eq!(server.get("/v1/rooms/a%20b/history/members").await.problem(), (400, "invalid_query"));
    assert_eq!(server.get("/v1/rooms/a%20b/history/attendance").await.problem(), (400, "invalid_room"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_for_admins_of_the_room() {
    let deployment = start().await;
    let admin = Grant::Some { room: "lobby".into(), can: vec![Right::Admin] };
    let admin = deployment.caller_at(0, token("ann", Rights(Some(vec![admin]))));
    for question in ["attendance", "occupancy", &format!("members?at={}", now(&deployment).await)] {
        let path = |room: &str| format!("/v1/rooms/{room}/history/{question}");
        admin.get(&path("lobby")).await.ok();
        assert_eq!(admin.get(&path("kitchen")).await.problem(), (404, "room_not_found"));
        assert_eq!(deployment.user("bob").get(&path("lobby")).await.problem(), (404, "room_not_found"));
    }
}
