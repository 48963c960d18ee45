//! Public keys of tokens from a URL: they rotate, many tokens make one request, and what goes wrong there is nobody's
//! problem who has a token of a known key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use headcount::auth::remote::FetchPace;
use headcount::auth::{Rights, Sources, TokenError, Verifier};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::deployment::{Deployment, PATIENCE, keys, start_keyed, tuning};
use crate::support::signing::{claims, jwk, sign};
use crate::wait::until_so;

/// How the issuer answers.
#[derive(Clone)]
enum Manner {
    Keys(Value),
    Text(&'static str, &'static str),
    Endless,
    Never,
}

/// Somebody who publishes keys.
#[derive(Clone)]
struct Issuer {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = Self { address, manner: watch::Sender::new(manner), asked: Arc::default() };
        let serving = issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().answer(stream));
            }
        });
        issuer
    }

    async fn answer(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        // One that never answers does as soon as it is told to behave otherwise.
        let mut manner = self.manner.subscribe();
        let manner = manner.wait_for(|manner| !matches!(manner, Manner::Never)).await.unwrap().clone();
        let (status, body) = match &manner {
            Manner::Keys(keys) => ("200 OK", json!({"keys": keys}).to_string()),
            Manner::Text(status, body) => (*status, (*body).to_owned()),
            Manner::Endless | Manner::Never => ("200 OK", String::new()),
        };
        let head =
            format!("HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n{body}");
        let _ = stream.write_all(head.as_bytes()).await;
        while matches!(manner, Manner::Endless) && stream.write_all(&[b' '; 4096]).await.is_ok() {}
    }

    fn set(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn until_asked(&self, times: usize) {
        until_so("a request for keys", PATIENCE, async || self.asked() >= times).await;
    }

    fn verifier(&self, apart: Duration) -> Verifier {
        let jwks_url = Some(format!("http://{}/keys", self.address).parse().unwrap());
        let jwks_pace = FetchPace { apart, ..FetchPace::default() };
        Verifier::new(Sources { jwks_url, jwks_pace, ..Sources::default() }).unwrap()
    }

    /// A verifier whose fetches run.
    async fn watched(&self, apart: Duration) -> Arc<Verifier> {
        let verifier = Arc::new(self.verifier(apart));
        let running = verifier.clone();
        tokio::spawn(async move { running.remote().unwrap().run().await });
        verifier
    }

    async fn deployment(&self, apart: Duration) -> Deployment {
        start_keyed(tuning(), keys(self.verifier(apart), Rights::default())).await
    }
}

fn rsa() -> Manner {
    Manner::Keys(json!([jwk("rsa", "old")]))
}

fn old() -> String {
    sign("rsa", Some("old"), &claims())
}

fn new() -> String {
    sign("p256", Some("new"), &claims())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_good_at_once_and_a_withdrawn_one_no_longer() {
    let issuer = Issuer::start(rsa()).await;
    let deployment = issuer.deployment(Duration::ZERO).await;
    deployment.caller_at(0, old()).join("lobby").await;
    issuer.set(Manner::Keys(json!([jwk("p256", "new")])));
    deployment.caller_at(0, new()).join("lobby").await;
    let caller = deployment.caller_at(0, old());
    assert_eq!(caller.join_with("lobby", json!({})).await.problem(), (401, "invalid_token"));
    let unnamed = sign("p256", None, &claims());
    deployment.caller_at(0, unnamed).join("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tokens_of_unknown_keys_make_one_request() {
    let issuer = Issuer::start(rsa()).await;
    let verifier = issuer.watched(Duration::ZERO).await;
    verifier.check(&old()).await.unwrap();
    assert_eq!(issuer.asked(), 1);
    issuer.set(Manner::Never);
    let tokens: Vec<_> = (0..200).map(|n| sign("p256", Some(&format!("unknown {n}")), &claims())).collect();
    let storm = join_all(tokens.iter().map(|token| verifier.check(token)));
    let release = async {
        issuer.until_asked(2).await;
        verifier.check(&old()).await.unwrap(); // a token of a known key does not wait
        issuer.set(rsa());
    };
    let (answers, ()) = join(storm, release).await;
    assert!(
        answers.iter().all(|answer| answer.as_ref().is_err_and(|refused| *refused == TokenError::Invalid))
    );
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_requests_are_ten_seconds_whatever_tokens_name() {
    let issuer = Issuer::start(rsa()).await;
    let verifier = issuer.watched(FetchPace::default().apart).await;
    let from = Instant::now();
    for n in 0..200 {
        let token = sign("p256", Some(&format!("unknown {n}")), &claims());
        assert_eq!(verifier.check(&token).await.unwrap_err(), TokenError::Invalid);
    }
    assert!(from.elapsed() < FetchPace::default().apart, "none of them waited for a request");
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_no_public_key_can_have_signed_make_no_request() {
    let issuer = Issuer::start(rsa()).await;
    let verifier = issuer.watched(Duration::ZERO).await;
    verifier.check(&old()).await.unwrap();
    let secret = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let header = jsonwebtoken::Header { kid: Some("unknown".into()), ..Default::default() };
    let by_secret = jsonwebtoken::encode(&header, &claims(), &secret).unwrap();
    for token in [by_secret.as_str(), "x.y.z", "", &sign("p256", None, &claims())] {
        assert_eq!(verifier.check(token).await.unwrap_err(), TokenError::Invalid);
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_at_the_issuer_leaves_the_keys_as_they_were() {
    let issuer = Issuer::start(rsa()).await;
    let verifier = issuer.watched(Duration::ZERO).await;
    verifier.check(&old()).await.unwrap();
    let keys = r#"{"keys": []}"#;
    for manner in [
        Manner::Endless,
        Manner::Text("200 OK", "no keys"),
        Manner::Text("200 OK", keys),
        Manner::Text("500 Internal Server Error", keys),
        Manner::Text("302 Found", keys),
    ] {
        issuer.set(manner);
        let from = Instant::now();
        assert_eq!(verifier.check(&new()).await.unwrap_err(), TokenError::UnknownKey);
        assert!(from.elapsed().as_secs() < 4, "cut by its size, not by its time: {:?}", from.elapsed());
        verifier.check(&old()).await.unwrap();
    }
    issuer.set(Manner::Never);
    let from = Instant::now();
    assert_eq!(verifier.check(&new()).await.unwrap_err(), TokenError::UnknownKey);
    assert!((5..7).contains(&from.elapsed().as_secs()), "{:?}", from.elapsed());
    issuer.set(Manner::Keys(json!([jwk("rsa", "old"), jwk("p256", "new")])));
    verifier.check(&new()).await.unwrap();
    verifier.check(&old()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_keys_are_there_a_caller_is_asked_to_come_again() {
    let issuer = Issuer::start(Manner::Text("503 Service Unavailable", "")).await;
    let deployment = issuer.deployment(Duration::ZERO).await;
    let ann = deployment.caller_at(0, old());
    assert_eq!(ann.join_with("lobby", json!({})).await.problem(), (503, "keys_unavailable"));
    deployment.server().get("/v1/rooms").await.ok();
    issuer.set(rsa());
    ann.join("lobby").await;
}
