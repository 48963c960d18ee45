//! What the command line tells of a room's past.

use serde_json::{Value, json};

use crate::support::deployment::start;
use crate::support::program::ask;

#[tokio::test(flavor = "multi_thread")]
async fn who_at_a_time_prints_those_who_were_there_then_however_many_pages_it_takes() {
    let deployment = start().await;
    let server = deployment.server();
    deployment
        .execute("select headcount.join('hall', 'u' || n, gen_random_uuid()) from generate_series(1, 1001) n")
        .await;
    let now = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let then: String =
        sqlx::query_scalar(now).fetch_one(&mut deployment.database.connect().await).await.unwrap();
    server.post("/v1/rooms/hall/kick", &json!({"user": "u1"})).await.ok();
    let hall = ask(&server, &["who", "hall", "--at", &then, "--json"]).await.json();
    let ids: std::collections::BTreeSet<&str> =
        hall["members"].as_array().unwrap().iter().map(|member| member["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), &hall["count"]), (1001, &json!(1001)));
    assert!(ids.contains("u1"));
    let table = ask(&server, &["who", "hall", "--at", &then]).await.ok();
    assert!(table.starts_with("hall at ") && table.contains(": 1001 members (at "), "{table}");
    assert!(ask(&server, &["who", "hall"]).await.ok().starts_with("hall: 1000 members (at "));
    let gone = ask(&server, &["who", "hall", "--at", "30d"]).await;
    assert!(gone.code == 1 && gone.err.contains("Ask for a later time"), "{}", gone.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn attendance_and_occupancy_print_who_was_there_how_long_and_how_many() {
    let deployment = start().await;
    let server = deployment.server();
    deployment
        .execute("select headcount.join('hall', 'u' || n, gen_random_uuid()) from generate_series(1, 1001) n")
        .await;
    let all = ask(&server, &["attendance", "hall", "--json"]).await.json();
    let rows = all["rows"].as_array().unwrap();
    let users: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row["user"].as_str().unwrap()).collect();
    assert_eq!(users.len(), 1001);
    let one = ask(&server, &["attendance", "hall", "--user", "u7", "--tz", "Europe/Berlin"]).await.ok();
    let lines: Vec<Vec<&str>> = one.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["USER", "DAY", "MINUTES"], "{one}");
    assert!(lines[2..].iter().all(|row| row[0] == "u7") && lines.len() > 2, "{one}");
    let wrong = ask(&server, &["attendance", "hall", "--tz", "Nowhere/Else"]).await;
    assert!(wrong.code == 1 && wrong.err.contains("time zone"), "{}", wrong.err);

    let counts =
        ask(&server, &["occupancy", "hall", "--from", "5m", "--bucket", "1m", "--json"]).await.json();
    assert_eq!(counts["peak"]["count"], 1001);
    let most =
        counts["buckets"].as_array().unwrap().iter().map(|bucket: &Value| bucket["count"].as_i64().unwrap());
    assert_eq!(most.max(), Some(1001));
    let table = ask(&server, &["occupancy", "hall"]).await.ok();
    assert!(table.contains("\nat most 1001, first at ") && table.contains(&"#".repeat(40)), "{table}");
}
