//! One browser tab: it joins, beats, updates, leaves; it tries again with growing pauses, at another replica; told
//! that it is gone, it joins again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headcount::auth::token::TokenKey;
use headcount::auth::{Claims, Rights};
use headcount::domain::id::UserId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::recorder::Recorder;
use crate::recording::{Asked, Kind, Outcome, What};
use crate::replica::JWT_SECRET;

/// A request that takes longer is given up by its client.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// A heartbeat sooner, so that there is time for another replica within the lease of 3 s.
const BEAT_MAX: Duration = Duration::from_millis(1250);

/// The pause after the first failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_millis(800);

/// What the fleet is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything.
    Load,
    /// No more changes; who stays beats.
    Settle,
    /// Nothing.
    Rest,
}

/// What a fleet shares.
#[derive(Clone)]
pub struct World {
    pub recorder: Recorder,
    pub http: reqwest::Client,
    /// Addresses of the replicas.
    pub bases: Arc<Vec<String>>,
    pub rooms: Arc<Vec<String>>,
    pub phase: watch::Receiver<Phase>,
    /// Tabs that have not come to rest.
    pub busy: Arc<AtomicUsize>,
}

impl World {
    /// Whether the fleet has gone on to this phase.
    pub fn is_past(&self, phase: Phase) -> bool {
        *self.phase.borrow() > phase
    }

    /// Waits for a time, or less when the phase ends. Gives whether it still lasts.
    pub async fn pause(&self, phase: Phase, time: Duration) -> bool {
        let mut changes = self.phase.clone();
        timeout(time, changes.wait_for(|now| *now > phase)).await.is_err()
    }
}

pub fn token(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let exp = (now + Duration::from_secs(7200)).as_secs();
    let claims = Claims {
        name: Some(format!("The {user}")),
        rooms: Rights::everywhere(),
        ..Claims::new(UserId::parse(user).unwrap(), exp)
    };
    TokenKey::new(JWT_SECRET.to_owned().into()).mint(&claims)
}

/// A tab.
pub struct Tab {
    pub world: World,
    pub name: String,
    pub user: String,
    pub session: String,
    token: String,
    at: AtomicUsize,
    seq: AtomicI64,
    /// Whether it says `seq`.
    counts: bool,
    rooms: Mutex<BTreeSet<String>>,
    gone: Notify,
    silent: watch::Sender<bool>,
}

impl Tab {
    pub fn new(world: World, name: String, user: String, random: &mut StdRng) -> Arc<Self> {
        Arc::new(Self {
            name,
            token: token(&user),
            user,
            session: uuid::Builder::from_random_bytes(random.random()).into_uuid().to_string(),
            at: AtomicUsize::new(random.random_range(0..world.bases.len())),
            seq: AtomicI64::new(0),
            counts: random.random(),
            rooms: Mutex::default(),
            gone: Notify::new(),
            silent: watch::Sender::new(false),
            world,
        })
    }

    /// One request, as it is recorded.
    pub async fn ask(&self, kind: Kind, room: &str, fields: Value, seq: Option<i64>) -> Outcome {
        let op = self.world.recorder.number();
        let state = fields.get("state").map(Value::to_string);
        let (client, user) = (self.name.clone(), self.user.clone());
        let session = if kind == Kind::Roster { String::new() } else { self.session.clone() };
        self.world.recorder.record(What::Asked(Asked {
            op,
            client,
            user,
            session,
            room: room.to_owned(),
            kind,
            state,
            seq,
        }));
        let most = if kind == Kind::Heartbeat { BEAT_MAX } else { ANSWER_MAX };
        let outcome = timeout(most, self.send(kind, room, fields, seq)).await.ok().flatten();
        let outcome = outcome.unwrap_or(Outcome::Lost);
        if outcome == Outcome::Lost || matches!(outcome, Outcome::Problem { status: 500.., .. }) {
            self.at.fetch_add(1, Ordering::Relaxed); // another replica may do better
        }
        self.world.recorder.record(What::Answered { op, outcome: outcome.clone() });
        outcome
    }

    async fn send(&self, kind: Kind, room: &str, mut fields: Value, seq: Option<i64>) -> Option<Outcome> {
        let (method, path) = match kind {
            Kind::Join => (Method::POST, format!("/v1/rooms/{room}/join")),
            Kind::Leave | Kind::LeaveGrace => (Method::POST, format!("/v1/rooms/{room}/leave")),
            Kind::Update => (Method::PATCH, format!("/v1/rooms/{room}/presence")),
            Kind::Heartbeat => (Method::POST, "/v1/heartbeats".to_owned()),
            Kind::Roster => (Method::GET, format!("/v1/rooms/{room}?limit=1000")),
            Kind::Kick => unreachable!("tabs do not kick"),
        };
        let base = &self.world.bases[self.at.load(Ordering::Relaxed) % self.world.bases.len()];
        let mut request = self.world.http.request(method, format!("{base}{path}")).bearer_auth(&self.token);
        if kind != Kind::Roster {
            fields["session"] = json!(self.session);
            if let Some(seq) = seq {
                fields["seq"] = json!(seq);
            }
            request = request.json(&fields);
        }
        let response = request.send().await.ok()?;
        let (status, retry) = (response.status(), response.headers().contains_key("retry-after"));
        let body: Value = serde_json::from_slice(&response.bytes().await.ok()?).unwrap_or_default();
        if status == StatusCode::SERVICE_UNAVAILABLE && !retry {
            self.world.recorder.odd(format!("a 503 without Retry-After: {body}"));
        }
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            self.world.recorder.odd(format!("a fault of ours: {kind:?} {body}"));
        }
        let outcome = Outcome::read(kind, status.as_u16(), &body);
        if outcome.is_none() {
            self.world.recorder.odd(format!("{kind:?} answered {status} {body}"));
        }
        outcome
    }

    /// Asks until there is an answer that is one, as long as the fleet has not gone past this phase.
    pub async fn insist(&self, kind: Kind, room: &str, fields: Value, phase: Phase) -> Option<Outcome> {
        let counted = self.counts && kind != Kind::Heartbeat;
        let seq = counted.then(|| self.seq.fetch_add(1, Ordering::Relaxed) + 1);
        let mut pause = PAUSE_MIN;
        loop {
            let outcome = self.ask(kind, room, fields.clone(), seq).await;
            match outcome {
                Outcome::Lost | Outcome::Problem { status: 500.. | 429, .. } => {}
                outcome => return Some(outcome),
            }
            let jitter = rand::random_range(0.5..1.5);
            if !self.world.pause(phase, pause.mul_f64(jitter)).await {
                return None;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    pub async fn join(&self, room: &str, fields: Value, phase: Phase) {
        self.rooms.lock().unwrap().insert(room.to_owned());
        self.insist(Kind::Join, room, fields, phase).await;
    }

    pub async fn leave(&self, room: &str, kind: Kind, phase: Phase) {
        self.rooms.lock().unwrap().remove(room);
        let fields = if kind == Kind::LeaveGrace { json!({"grace": true}) } else { json!({}) };
        self.insist(kind, room, fields, phase).await;
    }

    pub fn rooms(&self) -> Vec<String> {
        self.rooms.lock().unwrap().iter().cloned().collect()
    }

    /// No more heartbeats: the tab was closed without a word.
    pub fn go_silent(&self) {
        self.silent.send_replace(true);
    }

    /// Beats about once a second until the fleet rests or the tab is silent.
    pub async fn beat(self: Arc<Self>) {
        let mut silent = self.silent.subscribe();
        let beating = async {
            while self.world.pause(Phase::Settle, Duration::from_millis(rand::random_range(900..1100))).await
            {
                if self.rooms.lock().unwrap().is_empty() {
                    continue;
                }
                if self.insist(Kind::Heartbeat, "", json!({"active": true}), Phase::Settle).await
                    == Some(Outcome::Gone)
                {
                    self.gone.notify_one();
                }
            }
        };
        tokio::select! { () = beating => {}, _ = silent.wait_for(|silent| *silent) => {} }
    }

    /// Joins a room, with these fields, and stays, for ever.
    pub async fn stay(self: Arc<Self>, room: String, fields: Value) {
        self.join(&room, fields.clone(), Phase::Settle).await;
        tokio::spawn(self.clone().beat());
        loop {
            self.gone.notified().await;
            self.join(&room, fields.clone(), Phase::Settle).await;
        }
    }

    /// Does what people do, at random, and at the end leaves, goes silent, or stays.
    pub async fn wander(self: Arc<Self>, seed: u64) {
        self.world.busy.fetch_add(1, Ordering::Relaxed);
        let mut random = StdRng::seed_from_u64(seed);
        let home = self.world.rooms[random.random_range(0..self.world.rooms.len())].clone();
        self.join(&home, json!({"state": {"n": 0}}), Phase::Load).await;
        tokio::spawn(self.clone().beat());
        let mut step = 0;
        while !self.world.is_past(Phase::Load) {
            let pause = Duration::from_millis(random.random_range(100..700));
            let gone = tokio::select! {
                () = self.gone.notified() => true,
                _ = self.world.pause(Phase::Load, pause) => false,
            };
            step += 1;
            if gone {
                for room in self.rooms() {
                    self.join(&room, json!({}), Phase::Load).await;
                }
            } else {
                self.step(&mut random, step).await;
            }
        }
        let ending = random.random_range(0..3);
        match ending {
            0 => self.go_silent(),
            1 => {
                for room in self.rooms() {
                    self.leave(&room, Kind::Leave, Phase::Settle).await;
                }
            }
            _ => {}
        }
        self.world.busy.fetch_sub(1, Ordering::Relaxed);
        if ending < 2 {
            return;
        }
        loop {
            self.gone.notified().await;
            for room in self.rooms() {
                self.join(&room, json!({}), Phase::Settle).await;
            }
        }
    }

    async fn step(&self, random: &mut StdRng, step: u32) {
        let room = self.world.rooms[random.random_range(0..self.world.rooms.len())].clone();
        let inside = self.rooms.lock().unwrap().contains(&room);
        match (random.random_range(0..6), inside) {
            (0..=2, true) => {
                let fields = json!({"state": {"n": step, "of": self.name}});
                let answer = self.insist(Kind::Update, &room, fields, Phase::Load).await;
                if matches!(answer, Some(Outcome::Problem { .. })) {
                    self.join(&room, json!({}), Phase::Load).await; // swept meanwhile
                }
            }
            (3, true) => self.leave(&room, Kind::Leave, Phase::Load).await,
            (4, true) => self.leave(&room, Kind::LeaveGrace, Phase::Load).await,
            (5, true) => {
                // a reload
                self.leave(&room, Kind::LeaveGrace, Phase::Load).await;
                self.join(&room, json!({}), Phase::Load).await;
            }
            (0..=1, false) => {
                self.join(&room, json!({"state": {"n": step, "of": self.name}}), Phase::Load).await;
            }
            _ => drop(self.ask(Kind::Roster, &room, json!({}), None).await),
        }
    }

    /// Reads rosters, here and there.
    pub async fn read(self: Arc<Self>) {
        while !self.world.is_past(Phase::Load) {
            let room = &self.world.rooms[rand::random_range(0..self.world.rooms.len())];
            self.ask(Kind::Roster, room, json!({}), None).await;
            self.at.fetch_add(1, Ordering::Relaxed);
            self.world.pause(Phase::Load, Duration::from_millis(rand::random_range(50..250))).await;
        }
    }
}
