//! Which pages of other origins may call from a browser, and the headers that answers carry for browsers.

use reqwest::Method;

use crate::support::deployment::{start, start_with, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_origins_may_call_from_a_browser() {
    let mut tuning = tuning();
    tuning.cors_origins =
        "https://app.example:443, https://müller.example\nhttps://*.preview.example capacitor://localhost"
            .parse()
            .unwrap();
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    let preflight = async |origin: &'static str| {
        let request = ann.http.request(Method::OPTIONS, format!("{}/v1/rooms/lobby/join", ann.base));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        let request = request.header("access-control-request-headers", "authorization,content-type");
        let response = request.send().await.unwrap();
        response.headers().get("access-control-allow-origin").map(|o| o.to_str().unwrap().to_owned())
    };
    for listed in [
        "https://app.example",
        "https://xn--mller-kva.example",
        "https://pr-17.preview.example",
        "capacitor://localhost",
    ] {
        assert_eq!(preflight(listed).await.as_deref(), Some(listed));
    }
    for other in [
        "https://preview.example",
        "https://app.example.evil.test",
        "http://app.example",
        "https://x.app.example",
        "null",
    ] {
        assert_eq!(preflight(other).await, None, "{other}");
    }
    let request = ann.request(Method::GET, "/v1/rooms/lobby").header("origin", "https://app.example");
    let response = request.send().await.unwrap();
    assert!(response.headers()["vary"].to_str().unwrap().to_lowercase().contains("origin"));
    assert!(response.headers().get("access-control-allow-credentials").is_none());
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["referrer-policy"], "no-referrer");
    assert_eq!(response.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_tracers_and_frameworks_add_are_allowed() {
    let mut tuning = tuning();
    tuning.cors_origins = "https://app.example".parse().unwrap();
    let deployment = start_with(1, tuning).await;
    let ann = deployment.user("ann");
    let headers = [
        "authorization",
        "content-type",
        "last-event-id",
        "if-none-match",
        "traceparent",
        "tracestate",
        "sentry-trace",
        "baggage",
        "x-datadog-trace-id",
        "x-datadog-parent-id",
        "x-requested-with",
        "x-request-id",
        "newrelic",
        "x-socket-id",
    ];
    for (method, path) in
        [("POST", "/v1/rooms/lobby/join"), ("GET", "/v1/events"), ("DELETE", "/v1/users/ann")]
    {
        let request = ann.http.request(Method::OPTIONS, format!("{}{path}", ann.base));
        let request = request.header("origin", "https://app.example");
        let request = request.header("access-control-request-method", method);
        let request = request.header("access-control-request-headers", headers.join(","));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap().to_lowercase();
        let allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
        assert!(headers.iter().all(|header| allowed.contains(header)), "{allowed:?}");
        assert!(response.headers().get("access-control-allow-credentials").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_keeps_what_says_where_people_are() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    for path in ["/v1/rooms/lobby", "/v1/users/ann", "/v1/users/ann/presence", "/v1/users/nobody"] {
        let answer = ann.request(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
        assert!(!answer.headers().contains_key("strict-transport-security"), "this is not TLS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_name_was_made_to_lead_here_gets_no_token() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    for (host, status) in [("evil.example", 403), ("localhost", 200)] {
        let asked = ann.http.post(format!("{}/dev/token", ann.base)).header("host", host);
        let answer = asked.json(&serde_json::json!({"user": "ann"})).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{host}");
    }
}
