//! Replicas in this process, on a database of their own, and clients that speak HTTP to them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use headcount::app::{Parts, Replica};
use headcount::auth::token::{TokenKey, seconds_now};
use headcount::auth::{Claims, Keys, Rights, Verifier};
use headcount::cli::grammar::{Cli, Invocation};
use headcount::domain::id::UserId;
use headcount::settings::{ProfilesBy, Tuning};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::database::{TestDatabase, database};
use crate::support::watcher::Watcher;
use crate::wait::until_so;

pub const JWT_SECRET: &str = "a secret of the tests, which is long enough";
pub const SERVER_KEY: &str = "a server key of the tests that is long enough";

/// Nothing that is right takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Replicas and the database they share.
pub struct Deployment {
    pub database: TestDatabase,
    pub replicas: Vec<Replica>,
    http: reqwest::Client,
}

/// The settings a user gets, but for what the environment says of LISTEN: the suite must pass with and without.
pub fn tuning() -> Tuning {
    let arguments = ["headcount", "dev", "--workers", "1"];
    let Invocation::Dev(dev) = Cli::parse_from(arguments).command else { unreachable!("it says dev") };
    // Nearly every test's token says a name, and many tests' users change it.
    Tuning { profiles_by: ProfilesBy::User, ..dev.tuning }
}

/// One replica with the default settings.
pub async fn start() -> Deployment {
    start_with(1, tuning()).await
}

/// Several replicas.
pub async fn start_with(replicas: usize, tuning: Tuning) -> Deployment {
    let mut deployment = without_replicas().await;
    for _ in 0..replicas {
        deployment.add(tuning.clone());
    }
    deployment
}

/// One replica with other keys than the tests'.
pub async fn start_keyed(tuning: Tuning, keys: Keys) -> Deployment {
    let mut deployment = without_replicas().await;
    deployment.add_keyed(tuning, keys);
    deployment
}

async fn without_replicas() -> Deployment {
    Deployment { database: database().await, replicas: Vec::new(), http: reqwest::Client::new() }
}

/// The tests' keys.
pub fn keys(verifier: impl Into<Verifier>, rooms_default: Rights) -> Keys {
    Keys::new(&[SERVER_KEY.to_owned().into()], verifier.into(), rooms_default)
}

/// What checks the tests' tokens.
pub fn secret() -> SecretString {
    JWT_SECRET.to_owned().into()
}

pub fn token_key() -> TokenKey {
    TokenKey::new(JWT_SECRET.to_owned().into())
}

/// A valid token.
pub fn token(user: &str, rooms: Rights) -> String {
    token_of(user, rooms, Some(seconds_now()))
}

/// A valid token that was issued then.
pub fn token_of(user: &str, rooms: Rights, iat: Option<u64>) -> String {
    let exp = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(600)).as_secs();
    let name = Some(format!("The {user}"));
    token_key().mint(&Claims { iat, name, rooms, ..Claims::new(UserId::parse(user).unwrap(), exp) })
}

impl Deployment {
    /// One more replica.
    pub fn add(&mut self, tuning: Tuning) {
        self.add_keyed(tuning, keys(secret(), Rights::default()));
    }

    fn add_keyed(&mut self, tuning: Tuning, keys: Keys) {
        let parts = Parts {
            socket: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            database: self.database.service.clone(),
            pool_mode: headcount::store::PoolMode::Direct,
            listen_database: None,
            keys,
            certificate: None,
            tuning,
            mint: Some(token_key()),
        };
        self.replicas.push(Replica::start(parts).expect("a replica starts"));
    }

    /// A user at the first replica.
    pub fn user(&self, id: &str) -> Client {
        self.user_at(0, id)
    }

    /// A user at some replica.
    pub fn user_at(&self, replica: usize, id: &str) -> Client {
        self.caller_at(replica, token(id, Rights::everywhere()))
    }

    /// An application's server.
    pub fn server(&self) -> Client {
        self.caller_at(0, SERVER_KEY.to_owned())
    }

    /// Anybody with this credential.
    pub fn caller_at(&self, replica: usize, credential: String) -> Client {
        let base = format!("http://{}", self.replicas[replica].address());
        Client { http: self.http.clone(), base, credential, session: Uuid::new_v4() }
    }

    /// Runs SQL in the database.
    pub async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&mut self.database.connect().await).await.unwrap();
    }

    /// One value from the database.
    pub async fn value(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.database.connect().await).await.unwrap()
    }

    /// A room's log as `kind user [reason]` lines.
    pub async fn log(&self, room: &str) -> Vec<String> {
        let query = "select concat_ws(' ', kind, user_id, reason) from headcount.events \
                     where room_id = $1 order by version";
        sqlx::query_scalar(query).bind(room).fetch_all(&mut self.database.connect().await).await.unwrap()
    }

    /// As if sweeps had always run: to the first one, a copy of the template looks as if there had been an outage, unless
    /// the template was made just now.
    pub async fn settle(&self) {
        self.swept().await;
        self.execute("update headcount.sweep_state set leases_from = '-infinity', recovering = false").await;
    }

    /// Waits until a sweep that began after this call is done.
    pub async fn swept(&self) {
        let now = self.value("select (extract(epoch from clock_timestamp()) * 1000000)::bigint").await;
        let sweep = "select (extract(epoch from last_sweep_at) * 1000000)::bigint from headcount.sweep_state";
        until_so("a sweep", PATIENCE, async || self.value(sweep).await > now).await;
    }

    /// Waits until the database says so.
    pub async fn until(&self, condition: &'static str) {
        let mut connection = self.database.connect().await;
        let look = async || sqlx::query_scalar(condition).fetch_one(&mut connection).await.unwrap();
        until_so(condition, PATIENCE, look).await;
    }
}

/// A caller with a session.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub base: String,
    pub credential: String,
    pub session: Uuid,
}

/// Status and body.
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let status = response.status();
        let text = response.text().await.unwrap();
        Self { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// The body of a success.
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }

    /// Status and code of a problem.
    pub fn problem(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or("no code"))
    }
}

impl Client {
    /// The same caller in another tab.
    pub fn tab(&self) -> Self {
        Self { session: Uuid::new_v4(), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.credential)
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(method, path).json(body).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    /// A body with this caller's session and these fields.
    pub fn with(&self, mut fields: Value) -> Value {
        fields["session"] = json!(self.session);
        fields
    }

    pub async fn join(&self, room: &str) -> Value {
        self.join_with(room, json!({})).await.ok()
    }

    pub async fn join_with(&self, room: &str, fields: Value) -> Answer {
        self.post(&format!("/v1/rooms/{room}/join"), &self.with(fields)).await
    }

    pub async fn leave(&self, room: &str) -> Value {
        self.leave_with(room, json!({})).await.ok()
    }

    pub async fn leave_with(&self, room: &str, fields: Value) -> Answer {
        self.post(&format!("/v1/rooms/{room}/leave"), &self.with(fields)).await
    }

    pub async fn update(&self, room: &str, fields: Value) -> Answer {
        self.send(Method::PATCH, &format!("/v1/rooms/{room}/presence"), &self.with(fields)).await
    }

    /// `alive` or `gone`.
    pub async fn beat(&self, fields: Value) -> String {
        let answer = self.post("/v1/heartbeats", &self.with(fields)).await.ok();
        answer["sessions"][0]["state"].as_str().unwrap().to_owned()
    }

    pub async fn roster(&self, room: &str) -> Value {
        self.get(&format!("/v1/rooms/{room}")).await.ok()
    }

    pub async fn watch(&self, room: &str) -> Watcher {
        self.watch_path(&format!("/v1/rooms/{room}/events"), None).await
    }

    pub async fn watch_from(&self, room: &str, cursor: &str) -> Watcher {
        self.watch_path(&format!("/v1/rooms/{room}/events"), Some(cursor)).await
    }

    /// Goes on where a watcher was cut.
    pub async fn resume(&self, path: &str, before: Watcher) -> Watcher {
        let last = before.last_id.clone().expect("a frame with an id was heard");
        self.watch_path(path, Some(&last)).await.after(before)
    }

    pub async fn watch_path(&self, path: &str, last: Option<&str>) -> Watcher {
        let mut request = self.request(Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Watcher::new(response)
    }
}
