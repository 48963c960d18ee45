//! Bad input: each its documented code and status, and nothing changed.

use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::deployment::{Answer, Deployment, JWT_SECRET, start, token_key};
use headcount::auth::{Claims, Rights};
use headcount::domain::id::UserId;

async fn nothing_changed(deployment: &Deployment) {
    let rows = "select (select count(*) from headcount.presence) + (select count(*) from headcount.memberships) \
                + (select count(*) from headcount.events) + (select count(*) from headcount.rooms) \
                + (select count(*) from headcount.users)";
    assert_eq!(deployment.value(rows).await, 0);
}

fn problem(answer: &Answer) -> (u16, String) {
    let (status, code) = answer.problem();
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_have_their_codes_and_change_nothing() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let session = ann.session.to_string();
    let join = async |body: Value| problem(&ann.post("/v1/rooms/lobby/join", &body).await);
    let expect = |found: (u16, String), status: u16, code: &str| assert_eq!(found, (status, code.to_owned()));
    expect(join(json!({"session": session, "colour": "red"})).await, 400, "invalid_body");
    expect(join(json!({})).await, 400, "invalid_body");
    expect(join(json!([session])).await, 400, "invalid_body");
    let beats = json!([[session, null, false, null]]);
    expect(problem(&ann.post("/v1/heartbeats", &beats).await), 400, "invalid_body");
    expect(join(json!({"session": "not a uuid"})).await, 400, "invalid_body");
    expect(join(json!({"session": uuid::Uuid::from_u128(7)})).await, 400, "invalid_body");
    expect(join(json!({"session": session, "status": "away"})).await, 400, "invalid_body");
    for seq in [json!(1.5), json!(1e300), json!("1"), json!(18_446_744_073_709_551_615_u64)] {
        expect(join(json!({"session": session, "seq": seq})).await, 400, "invalid_body");
    }
    expect(join(json!({"session": session, "state": "x".repeat(2048)})).await, 413, "state_too_large");
    expect(join(json!({"session": session, "state": {"a": "\u{0}"}})).await, 400, "invalid_state");
    expect(join(json!({"session": session, "state": "x".repeat(40_000)})).await, 413, "body_too_large");
    for room in ["a%20b", "%C3%A9", "%00", "a%2Fb", &"r".repeat(129)] {
        let path = format!("/v1/rooms/{room}/join");
        expect(problem(&ann.post(&path, &json!({"session": session})).await), 400, "invalid_room");
    }
    expect(
        problem(&ann.send(Method::PUT, "/v1/users/%00", &json!({"name": "x"})).await),
        400,
        "invalid_user",
    );
    expect(problem(&ann.get("/v1/rooms/lobby?limit=0").await), 400, "invalid_query");
    expect(problem(&ann.get("/v1/rooms/lobby/events?mode=all").await), 400, "invalid_query");
    expect(problem(&ann.get("/v1/events?rooms=a,a").await), 400, "invalid_query");
    expect(problem(&ann.get("/v1/events?rooms=a,b%20c").await), 400, "invalid_room");
    expect(problem(&ann.get("/v1/events?rooms=..").await), 400, "invalid_room");
    expect(problem(&ann.get("/v1/nowhere").await), 404, "not_found");
    expect(problem(&ann.get("/v1/heartbeats").await), 405, "method_not_allowed");
    for (path, takes) in [
        ("/v1/heartbeats", "POST"),
        ("/v1/users/ann", "GET, PUT, DELETE"),
        ("/v1/rooms/lobby/join", "POST"),
        ("/docs/index.html", "GET"),
    ] {
        let refused = ann.request(Method::TRACE, path).send().await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers()["allow"].to_str().unwrap()), (405, takes));
    }
    nothing_changed(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_has_its_codes() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let send = |content_type: &'static str, body: &'static str| {
        let request =
            ann.request(Method::POST, "/v1/rooms/lobby/join").header("content-type", content_type).body(body);
        async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            (
                response.status().as_u16(),
                response.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned(),
            )
        }
    };
    assert_eq!(send("application/json", "").await, (400, "invalid_json".into()));
    assert_eq!(send("application/json", "{\"session\": ").await, (400, "invalid_json".into()));
    assert_eq!(send("application/json", "\u{feff}{}").await, (400, "invalid_json".into()));
    assert_eq!(send("text/html", "{}").await, (415, "unsupported_media_type".into()));
    assert_eq!(send("text/plain", "{}").await, (415, "unsupported_media_type".into()));
    nothing_changed(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_json_is_refused_wherever_it_is_sent() {
    let deployment = start().await;
    let (ann, server) = (deployment.user("ann"), deployment.server());
    let session = ann.session;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (method, path) in [
        (Method::POST, "/v1/rooms/lobby/join"),
        (Method::POST, "/v1/rooms/lobby/leave"),
        (Method::PATCH, "/v1/rooms/lobby/presence"),
        (Method::POST, "/v1/heartbeats"),
        (Method::POST, "/v1/tickets"),
        (Method::POST, "/v1/users/presence"),
        (Method::PUT, "/v1/users/ann"),
        (Method::PUT, "/v1/users"),
        (Method::PUT, "/v1/settings/rooms/lobby"),
        (Method::PUT, "/v1/webhooks/crm"),
    ] {
        let levels = if path == "/v1/users" { 500_000 } else { 15_000 };
        let deep = [
            nested(levels),
            "[".repeat(levels),
            "{\"a\":".repeat(levels / 5),
            format!("{{\"session\":\"{session}\",\"user\":\"ann\",\"state\":{}}}", nested(levels)),
            format!("{{\"session\":\"{session}\",\"user\":\"ann\",\"state\":{}}}", nested(33)),
        ];
        for body in deep {
            let request = server.request(method.clone(), path).header("content-type", "application/json");
            let response = request.body(body).send().await.unwrap();
            assert_eq!(response.status().as_u16(), 400, "{path}");
            let problem: Value = response.json().await.unwrap();
            let codes = ["invalid_json", "invalid_body", "invalid_state", "invalid_webhook"];
            assert!(codes.contains(&problem["code"].as_str().unwrap()), "{path}: {problem}");
        }
    }
    nothing_changed(&deployment).await;
}

/// To serde_json such an object is raw JSON, which can hold another, and so on beyond any limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_parsers_own_is_a_key_like_any_other() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let inside = "[".repeat(120) + &"]".repeat(120);
    let joined = ann.join_with("lobby", json!({"state": {"$serde_json::private::RawValue": inside}})).await;
    assert_eq!(joined.status.as_u16(), 200);
    let kept = deployment
        .value("select length(state ->> '$serde_json::private::RawValue')::bigint from headcount.memberships")
        .await;
    assert_eq!(kept, 240, "a text, as it was given");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_would_be_stored_as_hundreds_of_digits_is_refused() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let body = format!("{{\"session\":\"{}\",\"state\":[{}]}}", ann.session, ["1e308"; 145].join(","));
    let request =
        ann.request(Method::POST, "/v1/rooms/lobby/join").header("content-type", "application/json");
    let problem: Value = request.body(body).send().await.unwrap().json().await.unwrap();
    assert_eq!(problem["code"], "state_too_large");
    let spaced = json!({"state": vec![1; 400]}); // 801 bytes as they are sent, 1200 as they are stored
    expect_problem(&ann.join_with("lobby", spaced).await, 413, "state_too_large");
    nothing_changed(&deployment).await;
}

fn expect_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(problem(answer), (status, code.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_credentials_have_their_codes_and_change_nothing() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let claims =
        |exp| Claims { rooms: Rights::everywhere(), ..Claims::new(UserId::parse("ann").unwrap(), exp) };
    let expired = token_key().mint(&claims(1_000_000));
    let other = headcount::auth::token::TokenKey::new("another secret".to_owned().into())
        .mint(&claims(4_000_000_000));
    for (credential, code) in
        [(expired.as_str(), "expired_token"), (&other, "invalid_token"), ("x.y.z", "invalid_token")]
    {
        let caller = deployment.caller_at(0, credential.to_owned());
        assert_eq!(caller.join_with("lobby", json!({})).await.problem(), (401, code));
        assert_eq!(caller.get("/v1/rooms/lobby/events").await.problem(), (401, code));
    }
    let bare = ann.http.post(format!("{}/v1/rooms/lobby/join", ann.base)).json(&ann.with(json!({})));
    let response = bare.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()["www-authenticate"].to_str().unwrap()),
        (401, "Bearer")
    );
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "missing_token");
    nothing_changed(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_names_the_claim_once_the_signature_is_good() {
    let deployment = start().await;
    for (claims, code, named) in [
        (json!({"sub": 42, "exp": 4e9}), "invalid_token", "`sub` is not a string"),
        (json!({"exp": 4e9}), "invalid_token", "`sub` is missing"),
        (json!({"sub": "ann"}), "invalid_token", "`exp` is missing"),
        (json!({"sub": "ann", "exp": 1e9}), "expired_token", "`exp` has passed"),
        (json!({"sub": "ann", "exp": 4e9, "nbf": 3.9e9}), "invalid_token", "`nbf` is in the future"),
    ] {
        let refused = asks(&deployment, JWT_SECRET, &claims).await;
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{named}\"");
        assert_eq!(refused, (401, code.into(), Some(named.into()), challenge), "{claims}");
        let refused = asks(&deployment, "another secret", &claims).await;
        let challenge = "Bearer error=\"invalid_token\"".into();
        assert_eq!(refused, (401, "invalid_token".into(), None, challenge), "{claims}");
    }
}

/// Status, code, detail and challenge.
async fn asks(
    deployment: &Deployment,
    secret: &str,
    claims: &Value,
) -> (u16, String, Option<String>, String) {
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), claims, &key).unwrap();
    let caller = deployment.caller_at(0, token.clone());
    let asked = caller.http.get(format!("{}/v1/users/ann/presence", caller.base)).bearer_auth(token);
    let answer = asked.send().await.unwrap();
    let status = answer.status().as_u16();
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let body: Value = answer.json().await.unwrap();
    let text = |field: &str| body[field].as_str().map(str::to_owned);
    (status, text("code").unwrap(), text("detail"), challenge)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_refused_for_what_is_only_displayed() {
    let deployment = start().await;
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    for (more, name, picture) in [
        (json!({"name": "Ann", "avatar_url": "/media/1.png"}), "Ann".to_owned(), Value::Null),
        (json!({"name": "x".repeat(257)}), "x".repeat(256), Value::Null),
        (json!({"name": " "}), "USER".to_owned(), Value::Null),
        (
            json!({"preferred_username": "ann", "picture": "https://a/p"}),
            "ann".to_owned(),
            json!("https://a/p"),
        ),
    ] {
        let user = uuid::Uuid::new_v4().to_string();
        let mut claims = json!({"sub": user, "exp": 4_000_000_000.5, "rooms": ["*"]});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
        let joined = deployment.caller_at(0, token).join_with("lobby", json!({})).await.ok();
        let shown = name.replace("USER", &user);
        assert_eq!((&joined["member"]["name"], &joined["member"]["avatar_url"]), (&json!(shown), &picture));
    }
}
