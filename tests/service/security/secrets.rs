//! No secret is written anywhere: not into a log of the wordiest kind, not into a metric, not into an error.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Response;
use serde_json::json;
use sqlx::ConnectOptions;

use crate::database::SERVICE_PASSWORD;
use crate::security::access::rule::{CALLERS, OPERATIONS, Who};
use crate::security::access::{Callers, SECOND_SERVER_KEY, WEBHOOK_SECRET};
use crate::support::deployment::{Client, JWT_SECRET, SERVER_KEY, start_with, tuning};
use crate::support::process::serve_logged;

const PREVIOUS_SECRET: &str = "the secret that the other one has replaced";

/// A stream never ends: its beginning is enough.
async fn text(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout(Duration::from_millis(300), response.chunk()).await {
        bytes.extend_from_slice(&chunk);
        if bytes.ends_with(b"\n\n") {
            break;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What is in each of them, in parts too: half a token is enough to find the rest.
fn parts(secrets: &BTreeSet<String>) -> BTreeSet<String> {
    let of_one = |secret: &String| -> Vec<String> {
        let signed = secret.rsplit_once('.').map(|(_, signature)| signature.to_owned());
        signed.into_iter().chain([secret.clone()]).filter(|part| part.len() > 12).collect()
    };
    secrets.iter().flat_map(of_one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_logs_metrics_or_errors() {
    let deployment = start_with(0, tuning()).await;
    let mut url = deployment.database.service.to_url_lossy();
    url.query_pairs_mut().append_pair("password", SERVICE_PASSWORD); // left out for a socket, which asks for none
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let server_keys = format!("{SERVER_KEY},{SECOND_SERVER_KEY}");
    let settings = [
        ("HEADCOUNT_LOG", "trace"),
        ("HEADCOUNT_SERVER_KEY", server_keys.as_str()),
        ("HEADCOUNT_JWT_SECRET_PREVIOUS", PREVIOUS_SECRET),
    ];
    let process = serve_logged(url.as_str(), &[], &settings, Stdio::from(File::create(&log).unwrap()));
    let http = reqwest::Client::new();
    let session = uuid::Uuid::new_v4();
    let server = Client { http, base: process.address.clone(), credential: SERVER_KEY.to_owned(), session };
    let callers = Callers::at(&server).await;
    let given =
        [JWT_SECRET, PREVIOUS_SECRET, SERVER_KEY, SECOND_SERVER_KEY, SERVICE_PASSWORD, WEBHOOK_SECRET];
    let mut secrets: BTreeSet<String> = given.into_iter().map(str::to_owned).collect();
    let mut answers = Vec::new();
    for operation in OPERATIONS {
        for caller in CALLERS {
            let request = callers.request(operation, caller, "here", true).build().unwrap();
            let credential = callers.credential(caller.0, caller.1);
            let header =
                request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            let shown =
                header.iter().filter_map(|value| value.split_once(' ')).map(|(_, shown)| shown.to_owned());
            secrets.extend(shown.chain((!matches!(caller.1, Who::Nobody)).then_some(credential)));
            let response = callers.http.execute(request).await.unwrap();
            let tells_a_ticket = operation.path == "/v1/tickets" && response.status() == 200;
            let told = text(response).await;
            if tells_a_ticket {
                let answer: serde_json::Value = serde_json::from_str(&told).unwrap();
                secrets.insert(answer["ticket"].as_str().unwrap().to_owned());
            } else {
                answers.push(told);
            }
        }
    }
    // What goes wrong inside is logged too: connections that break, and data that Postgres refuses.
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
               where datname = current_database() and usename = 'headcount_service'";
    assert!(deployment.value(cut).await > 0);
    for _ in 0..3 {
        answers.push(server.get("/v1/rooms/here").await.body.to_string());
        answers.push(
            server.post("/v1/rooms/here/join", &server.with(json!({"user": "ann"}))).await.body.to_string(),
        );
    }
    server.get("/v1/rooms?prefix=a-query-string-to-find").await.ok();
    secrets.insert("a-query-string-to-find".to_owned());
    answers.push(server.get("/metrics").await.body.to_string());
    drop(process);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("TRACE"), "the wordiest log there is");
    for part in parts(&secrets) {
        let at = log.find(&part).map(|at| log[..at].rsplit('\n').next().unwrap_or_default().to_owned());
        assert_eq!(at, None, "{part} is in the log");
        assert!(!answers.iter().any(|answer| answer.contains(&part)), "{part} is in an answer");
    }
    assert!(secrets.len() > 15, "{secrets:?}");
}

#[test]
fn a_database_address_that_cannot_be_used_is_not_told() {
    for url in [
        "postgres://ann:the-password-in-it@localhost:port/app",
        "postgres://ann:the-password-in-it@localhost:1/app?sslmode=nonsense",
        "postgres//ann:the-password-in-it@localhost/app",
        "the-password-in-it",
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_headcount"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).env("DATABASE_URL", url);
        command.env("HEADCOUNT_JWT_SECRET", JWT_SECRET).env("HEADCOUNT_SERVER_KEY", SERVER_KEY);
        let output = command.output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && !told.contains("the-password-in-it"), "{url}: {told}");
    }
}
