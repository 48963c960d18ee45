//! People who come, beat, change and go all the time, and others who watch them, at an address whose replica may be another
//! process at any moment. They try again what was not answered. At the end the log must say what they were answered, and
//! nothing else: nothing that was acked is missing, and nobody left whom nobody asked to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use headcount::auth::Rights;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::database::law::assert_lawful;
use crate::support::deployment::{Client, PATIENCE, token};
use crate::support::watcher::Watcher;
use crate::wait::until_so;

/// Users that come and go, and rooms that they do so in.
const MOVING: usize = 12;
const ROOMS: usize = 3;

/// Users that join once and stay, and watchers of everybody.
const STAYING: usize = 4;
const WATCHERS: usize = 3;

/// A user asks this often: enough to be at it whenever something happens, little enough for two cores.
const PACE: Duration = Duration::from_millis(25);

/// What went otherwise than an answer, over all.
#[derive(Default)]
struct Counts {
    name: &'static str,
    stop: AtomicBool,
    answered: AtomicUsize,
    refused: AtomicUsize,
    cut: AtomicUsize,
    told_to_retry: AtomicUsize,
    resumed: AtomicUsize,
}

/// Load that runs.
pub struct Load {
    counts: Arc<Counts>,
    moving: JoinSet<(String, usize)>,
    others: JoinSet<()>,
    watchers: JoinSet<Watcher>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, refused, cut, told_to_retry, resumed } = self;
        write!(
            f,
            "{answered} answered, {refused} refused, {cut} cut, {told_to_retry} told to ask again, {resumed} streams resumed"
        )
    }
}

/// How it was.
pub struct Outcome {
    /// Requests that were answered with success.
    pub answered: usize,
    /// Connections that were refused.
    pub refused: usize,
    /// Requests whose connection ended before the answer.
    pub cut: usize,
    /// Requests that were answered 503 or 429.
    pub told_to_retry: usize,
    /// Streams that were opened again.
    pub resumed: usize,
}

impl Load {
    /// Starts it in rooms of this name, and waits until everybody who stays is there.
    pub async fn start(base: &str, name: &'static str) -> Self {
        let counts = Arc::new(Counts { name, ..Counts::default() });
        let staying: Vec<_> =
            (0..STAYING).map(|n| Caller::new(base, &format!("stays{n}"), &counts)).collect();
        for caller in &staying {
            caller.must("staying", "join", json!({})).await;
        }
        let (mut moving, mut others, mut watchers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        for caller in staying {
            others.spawn(caller.stay());
        }
        for n in 0..MOVING {
            moving
                .spawn(Caller::new(base, &format!("moves{n}"), &counts).come_and_go((n % ROOMS).to_string()));
        }
        for n in 0..WATCHERS {
            watchers.spawn(Caller::new(base, &format!("watches{n}"), &counts).watch());
        }
        Self { counts, moving, others, watchers }
    }

    /// Waits until so many more requests were answered: what happens then happens under load.
    pub async fn answered(&self, more: usize) {
        let goal = self.counts.answered.load(Ordering::Relaxed) + more;
        let look = async || self.counts.answered.load(Ordering::Relaxed) >= goal;
        until_so(&format!("{more} answers"), PATIENCE * 3, look).await;
    }

    /// Ends it, and checks everything that was promised to its users.
    pub async fn end(mut self, database: &mut PgConnection) -> Outcome {
        self.counts.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.others.join_next().await {
            ended.expect("who stays is alive throughout");
        }
        let mut expected = BTreeMap::new();
        while let Some(ended) = self.moving.join_next().await {
            let (user, rounds) = ended.expect("whoever comes and goes is answered");
            expected.insert(user, ["joined", "updated", "left left"].repeat(rounds));
        }
        for n in 0..STAYING {
            expected.insert(format!("stays{n}"), vec!["joined"]);
        }
        let log: Vec<(String, String)> = sqlx::query_as(
            "select user_id, concat_ws(' ', kind, reason) from headcount.events \
             where starts_with(room_id, $1 || ':') order by room_id, version",
        )
        .bind(self.counts.name)
        .fetch_all(&mut *database)
        .await
        .unwrap();
        let mut logged = BTreeMap::<String, Vec<&str>>::new();
        for (user, what) in &log {
            logged.entry(user.clone()).or_default().push(what);
        }
        for (user, expected) in &expected {
            assert_eq!(logged.get(user), Some(expected), "{user} was answered this, and the log says that");
        }
        assert_eq!(logged.len(), expected.len(), "nobody else was there");
        assert_lawful(database).await;
        self.watchers_know(database).await;
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Outcome {
            answered: count(&self.counts.answered),
            refused: count(&self.counts.refused),
            cut: count(&self.counts.cut),
            told_to_retry: count(&self.counts.told_to_retry),
            resumed: count(&self.counts.resumed),
        }
    }

    /// Every watcher comes to where each room is, and knows who is there.
    async fn watchers_know(&mut self, database: &mut PgConnection) {
        let heads: Vec<(String, i64)> = sqlx::query_as(
            "select room_id, version from headcount.rooms where starts_with(room_id, $1 || ':')",
        )
        .bind(self.counts.name)
        .fetch_all(database)
        .await
        .unwrap();
        while let Some(watcher) = self.watchers.join_next().await {
            let mut watcher = watcher.expect("what a watcher hears is lawful");
            let behind = |watcher: &Watcher| {
                let at = |room: &String| watcher.cursors.get(room)?.rsplit_once('.')?.1.parse().ok();
                heads.iter().any(|(room, version)| at(room) != Some(*version))
            };
            while behind(&watcher) {
                watcher.next().await.expect("the stream is open");
            }
            let staying: Vec<String> = (0..STAYING).map(|n| format!("stays{n}")).collect();
            assert_eq!(watcher.members(&format!("{}:staying", self.counts.name)), staying);
            for room in 0..ROOMS {
                assert!(watcher.members(&format!("{}:{room}", self.counts.name)).is_empty());
            }
        }
    }
}

/// One of them. Each request has a connection of its own: one that is refused would show.
struct Caller {
    user: String,
    client: Client,
    counts: Arc<Counts>,
}

impl Caller {
    fn new(base: &str, id: &str, counts: &Arc<Counts>) -> Self {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let credential = token(id, Rights::everywhere());
        let client = Client { http, base: base.to_owned(), credential, session: Uuid::new_v4() };
        Self { user: id.to_owned(), client, counts: counts.clone() }
    }

    fn stopped(&self) -> bool {
        self.counts.stop.load(Ordering::Relaxed)
    }

    async fn must(&self, room: &str, verb: &str, fields: Value) -> Value {
        let (method, verb) =
            if verb == "update" { (Method::PATCH, "presence") } else { (Method::POST, verb) };
        self.ask(method, &format!("/v1/rooms/{}:{room}/{verb}", self.counts.name), fields).await
    }

    async fn alive(&self) {
        let answer = self.ask(Method::POST, "/v1/heartbeats", json!({})).await;
        assert_eq!(answer["sessions"][0]["state"], "alive", "nobody expires who beats: {answer}");
    }

    /// Asks until it is done. What is answered otherwise than with success or "later" fails the test.
    async fn ask(&self, method: Method, path: &str, fields: Value) -> Value {
        let body = self.client.with(fields);
        let (since, mut pace) = (Instant::now(), self.pace());
        loop {
            pace.tick().await;
            let answer = self.client.request(method.clone(), path).json(&body).timeout(PATIENCE).send().await;
            let read = match answer {
                Ok(answer) => (answer.status(), answer.text().await),
                Err(error) if error.is_connect() => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(_) => {
                    self.counts.cut.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            match read {
                (status, Ok(text)) if status.is_success() => {
                    self.counts.answered.fetch_add(1, Ordering::Relaxed);
                    return serde_json::from_str(&text).unwrap();
                }
                (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, Ok(text)) => {
                    self.counts.told_to_retry.fetch_add(1, Ordering::Relaxed);
                    assert!(since.elapsed() < 3 * PATIENCE, "{path}: {text}");
                }
                (status, text) => panic!("{path}: {status} {text:?}"),
            }
        }
    }

    fn pace(&self) -> tokio::time::Interval {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace.reset(); // the first tick comes at once otherwise, and a refused caller would spin
        pace
    }

    async fn stay(self) {
        while !self.stopped() {
            self.alive().await;
        }
    }

    /// Gives how often.
    async fn come_and_go(self, room: String) -> (String, usize) {
        let mut rounds = 0;
        while !self.stopped() {
            let joined = self.must(&room, "join", json!({})).await;
            self.alive().await;
            self.must(&room, "update", json!({"status": "dnd"})).await;
            self.must(&room, "leave", json!({})).await;
            rounds += 1;
            assert_eq!(joined["member"]["status"], "online");
        }
        (self.user, rounds)
    }

    /// Goes on where it was whenever the stream ends. Only the first stream begins with snapshots.
    async fn watch(self) -> Watcher {
        let (mut watcher, mut first, mut resumed_from) = (self.open(None).await, true, None);
        while !self.stopped() {
            let frame = watcher.next().await;
            let snapshot = frame.as_ref().filter(|frame| frame.event == "snapshot");
            let reason = snapshot.map(|frame| frame.data["reason"].clone());
            assert!(first || snapshot.is_none(), "{reason:?} after {:?}: {:?}", resumed_from, watcher.heard);
            if frame.is_none() {
                first = false;
                let last = watcher.last_id.clone();
                resumed_from.clone_from(&last);
                watcher = self.open(last.as_deref()).await.after(watcher);
                self.counts.resumed.fetch_add(1, Ordering::Relaxed);
            }
        }
        watcher
    }

    async fn open(&self, last: Option<&str>) -> Watcher {
        let mut pace = self.pace();
        let path = format!("/v1/events?rooms={0}:0,{0}:1,{0}:2,{0}:staying", self.counts.name);
        loop {
            let mut request = self.client.request(Method::GET, &path);
            if let Some(last) = last {
                request = request.header("last-event-id", last);
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return Watcher::new(answer),
                Ok(answer) => {
                    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                    self.counts.told_to_retry.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let counts = &self.counts;
                    let count = if error.is_connect() { &counts.refused } else { &counts.cut };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            pace.tick().await;
        }
    }
}
