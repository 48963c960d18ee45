//! Setting webhooks up: what is taken and what is refused, what is never told, trying one; and what `docs/webhooks.md` tells
//! receivers to do, done to a real message.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use reqwest::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sqlx::ConnectOptions;

use super::recipe::is_from_headcount;
use super::{SECRET, hook, state};
use crate::support::certificates::Authority;
use crate::support::deployment::{Client, SERVER_KEY, start, start_with, tuning};
use crate::support::process::serve_logged;
use crate::support::receiver::{Manner, Received, Receiver};
use headcount::settings::Switch;

async fn put(server: &Client, name: &str, body: Value) -> (u16, Value) {
    let answer = server.send(Method::PUT, &format!("/v1/webhooks/{name}"), &body).await;
    (answer.status.as_u16(), answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_made_changed_listed_and_deleted_and_its_secret_is_told_once() {
    let deployment = start().await;
    let server = deployment.server();
    let (status, made) = put(&server, "crm", json!({"url": "https://app.example/hook?key=1"})).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 38, "{secret}");
    let shown = server.get("/v1/webhooks/crm").await.ok();
    let fields =
        ["name", "url", "types", "rooms", "leave_delay_ms", "enabled", "secret_count", "disabled_reason"];
    assert_eq!(
        fields.map(|field| shown[field].clone()),
        [
            json!("crm"),
            json!("https://app.example/hook?key=1"),
            json!(["member.joined", "member.updated", "member.left", "room.occupied", "room.vacated"]),
            json!(["*"]),
            json!(0),
            json!(true),
            json!(1),
            Value::Null
        ]
    );
    let change = json!({
        "url": "http://127.0.0.1:1/", "types": ["room.vacated", "member.left"], "rooms": ["team:*", "lobby"],
        "leave_delay_ms": 10_000.0, "enabled": false, "secrets": [SECRET, secret],
    });
    let (status, changed) = put(&server, "crm", change).await;
    assert_eq!((status, &changed["types"]), (200, &json!(["member.left", "room.vacated"])));
    assert_eq!((&changed["leave_delay_ms"], &changed["secret_count"]), (&json!(10_000), &json!(2)));
    put(&server, "crm", json!({"url": "https://app.example/"})).await;
    let listed = server.get("/v1/webhooks").await.ok();
    assert_eq!(listed["webhooks"][0]["secret_count"], 2, "not given: as it was");
    for answer in [&shown, &changed, &listed, &json!(server.get("/metrics").await.body)] {
        assert!(!answer.to_string().contains("whsec_"), "{answer}");
    }
    assert_eq!(server.send(Method::DELETE, "/v1/webhooks/crm", &Value::Null).await.status, 204);
    for (method, path) in [
        (Method::GET, "/v1/webhooks/crm"),
        (Method::DELETE, "/v1/webhooks/crm"),
        (Method::POST, "/v1/webhooks/crm/test"),
    ] {
        assert_eq!(
            server.send(method, path, &Value::Null).await.problem(),
            (404, "webhook_not_found"),
            "{path}"
        );
    }
    let left = "select (select count(*) from headcount.webhook_secrets) + (select count(*) from headcount.webhook_deliveries)";
    assert_eq!(deployment.value(left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_webhook_is_refused_and_changes_nothing() {
    let deployment = start().await;
    let server = deployment.server();
    let good = json!({"url": "https://app.example/"});
    for (field, bad) in [
        ("url", json!("http://app.example/")),
        ("url", json!("https://ann:password@app.example/")),
        ("url", json!("ftp://app.example/")),
        ("url", json!("")),
        ("types", json!([])),
        ("rooms", json!([])),
        ("rooms", json!(["a b"])),
        ("rooms", json!(["a*b"])),
        ("rooms", json!(vec!["lobby"; 33])),
        ("leave_delay_ms", json!(-1)),
        ("leave_delay_ms", json!(300_001)),
        ("secrets", json!([])),
        ("secrets", json!(["whsec_c2hvcnQ="])),
        ("secrets", json!([SECRET, SECRET, SECRET])),
    ] {
        let mut body = good.clone();
        body[field] = bad;
        let (status, answer) = put(&server, "crm", body.clone()).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_webhook")), "{body}: {answer}");
        assert!(!answer.to_string().contains("whsec_C2F"), "{answer}");
    }
    for body in
        [json!({}), json!({"url": 1}), json!({"url": "https://a.b/", "types": ["member.moved"]}), json!([])]
    {
        let (status, answer) = put(&server, "crm", body.clone()).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_body")), "{body}: {answer}");
    }
    assert_eq!(put(&server, "c.rm", good.clone()).await.1["code"], "invalid_webhook");
    for n in 0..20 {
        assert_eq!(put(&server, &format!("hook{n}"), good.clone()).await.0, 201);
    }
    let (status, answer) = put(&server, "crm", good.clone()).await;
    assert_eq!((status, &answer["code"]), (409, &json!("too_many_webhooks")));
    assert_eq!(put(&server, "hook7", good).await.0, 200, "one that is there can be changed");
    assert_eq!(server.get("/v1/webhooks").await.ok()["webhooks"].as_array().unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_leaves_this_machine_only_where_a_setting_says_so() {
    let mut tuning = tuning();
    tuning.webhooks.webhooks_insecure = Switch::On;
    let deployment = start_with(1, tuning).await;
    let body = json!({"url": "http://receiver.invalid/", "enabled": false});
    assert_eq!(put(&deployment.server(), "crm", body).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_set_up_where_operators_are() {
    let apart = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // free a moment ago
    let mut tuning = tuning();
    tuning.operator_listen = Some(apart);
    let deployment = start_with(1, tuning).await;
    let (client, body) = (deployment.server(), json!({"url": "https://app.example/", "enabled": false}));
    assert_eq!(put(&client, "crm", body.clone()).await.0, 404);
    assert_eq!(client.get("/v1/webhooks").await.problem(), (404, "not_found"));
    let operator = Client { base: format!("http://{apart}"), ..client };
    assert_eq!(put(&operator, "crm", body).await.0, 201);
    operator.get("/v1/webhooks").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_what_came_of_it() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let server = deployment.server();
    hook(&server, &receiver, json!({"enabled": false})).await;
    let test = async || server.post("/v1/webhooks/hook/test", &Value::Null).await.ok();
    assert_eq!(test().await["accepted"], true);
    let got = receiver.received();
    assert!(got[0].is_signed_with(SECRET));
    assert_eq!(
        (&got[0].content["type"], &got[0].content["data"]),
        (&json!("webhook.test"), &json!({"webhook": "hook"}))
    );
    receiver.set(Manner::Status(401));
    let refused = test().await;
    assert_eq!(
        (&refused["accepted"], &refused["error"]),
        (&json!(false), &json!("it answers 401 Unauthorized"))
    );
    assert_eq!(state(&server).await["delivery"]["attempts"], 0, "a test is no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_webhook_nothing_is_written_for_one() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    ann.leave("lobby").await;
    // Rows that were written and are gone have used up numbers.
    let ever = "select case when is_called then 0 else 1 end::bigint from headcount.webhook_outbox_seq_seq";
    assert_eq!(deployment.value(ever).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_webhooks_do_is_measured() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    let server = deployment.server();
    hook(&server, &receiver, json!({})).await;
    deployment.user("ann").join("lobby").await;
    receiver.until_told(2).await;
    let looking = async {
        loop {
            let metrics = server.get("/metrics").await.body.as_str().unwrap().to_owned();
            let counted = r#"headcount_webhook_deliveries_total{webhook="hook",outcome="accepted"}"#;
            if metrics.contains(counted)
                && metrics.contains(r#"headcount_webhook_backlog_events{webhook="hook"} 0"#)
            {
                return;
            }
        }
    };
    tokio::time::timeout(crate::support::deployment::PATIENCE, looking).await.expect("metrics in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_https_a_receiver_must_have_a_certificate_that_the_machine_trusts() {
    let (deployment, authority) = (start_with(0, tuning()).await, Authority::new());
    authority.issue(&["localhost"]);
    let chain =
        CertificateDer::pem_file_iter(authority.file("cert.pem")).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.file("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let receiver = Receiver::start_tls(Arc::new(config).into()).await;
    let url = deployment.database.service.to_url_lossy().to_string();
    let (port, trusted) = (receiver.address.port(), authority.path("ca.pem"));
    let other = Authority::new();
    let stranger = other.path("ca.pem");
    for (roots, accepted, name) in
        [(&trusted, true, "localhost"), (&trusted, false, "127.0.0.1"), (&stranger, false, "localhost")]
    {
        let process = serve_logged(&url, &[], &[("SSL_CERT_FILE", roots)], Stdio::inherit());
        let server = Client { credential: SERVER_KEY.to_owned(), ..process.user("-") };
        let body =
            json!({"url": format!("https://{name}:{port}/hook"), "enabled": false, "secrets": [SECRET]});
        put(&server, "hook", body).await;
        let test = server.post("/v1/webhooks/hook/test", &Value::Null).await.ok();
        assert_eq!(test["accepted"], accepted, "{name} {test}");
        assert_eq!(test["error"].to_string().contains("certificate"), !accepted, "{test}");
    }
    assert_eq!(receiver.received().len(), 1);
}

/// The code of a language in `docs/webhooks.md`.
fn recipe(language: &str) -> String {
    let page = include_str!("../../../../docs/webhooks.md");
    let code = page.split_once(&format!("```{language}\n")).unwrap().1;
    code.split_once("\n```").unwrap().0.to_owned()
}

/// What the program says of a message, given as the recipes have it: secrets, headers and body.
fn says(program: &[&str], code: &str, got: &Received, secret: &str, now: i64) -> String {
    let headers =
        json!({"webhook-id": got.id, "webhook-timestamp": got.timestamp, "webhook-signature": got.signature});
    let input = json!({"secrets": [secret], "headers": headers, "body": got.body, "now": now}).to_string();
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .arg(code)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program[0]));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipes_for_receivers_take_what_is_ours_and_nothing_else() {
    let (deployment, receiver) = (start().await, Receiver::start().await);
    hook(&deployment.server(), &receiver, json!({})).await;
    deployment.user("zoë").join("lobby").await;
    let good = receiver.until("a message", |got| !got.is_empty()).await.remove(0);
    let now: i64 = good.timestamp.parse().unwrap();
    let forged = Received { body: good.body.replace("joined", "left"), ..good.clone() };
    let other = "whsec_VGhlIG90aGVyIHNlY3JldCBvZiB0aGUgdGVzdHM=";
    let python = recipe("python")
        + "\nimport json, sys\ni = json.load(sys.stdin)\n\
           print('yes' if is_from_headcount(i['secrets'], i['headers'], i['body'].encode(), i['now']) else 'no')";
    let node = recipe("js")
        .replace("export function", "function")
        .replace("import { ", "const { ")
        .replace(" } from \"node:crypto\"", " } = require(\"node:crypto\")")
        + "\nconst i = JSON.parse(require('node:fs').readFileSync(0));\n\
         console.log(isFromHeadcount(i.secrets, i.headers, Buffer.from(i.body), i.now) ? 'yes' : 'no');";
    for (program, code) in [(&["python3", "-c"][..], python), (&["node", "-e"][..], node)] {
        let ask = |got: &Received, secret: &str, now: i64| says(program, &code, got, secret, now);
        assert_eq!(ask(&good, SECRET, now), "yes", "{program:?}");
        assert_eq!(ask(&forged, SECRET, now), "no", "{program:?}");
        assert_eq!(ask(&good, other, now), "no", "{program:?}");
        assert_eq!(ask(&good, SECRET, now + 301), "no", "{program:?}: an old one");
        assert_eq!(ask(&good, SECRET, now - 301), "no", "{program:?}: one of the future");
    }
    let rust = include_str!("recipe.rs").split_once("\n\n").unwrap().1;
    assert_eq!(recipe("rust"), rust.trim_end(), "what is tried is what the page says");
    let ask = |got: &Received, secret: &str, now: i64| {
        is_from_headcount(secret, &got.id, &got.timestamp, &got.signature, got.body.as_bytes(), now)
    };
    assert!(ask(&good, SECRET, now));
    assert!(!ask(&forged, SECRET, now) && !ask(&good, other, now) && !ask(&good, SECRET, now + 301));
}
