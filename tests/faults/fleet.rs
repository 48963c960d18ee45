//! The clients of a run: tabs that wander and stay, readers, watchers.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clients::{Phase, Tab, World};
use crate::recorder::Recorder;
use crate::recording::Cursor;
use crate::watchers::{Places, Watching};

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rooms: usize,
    pub wanderers: usize,
    pub stayers: usize,
    pub watchers: usize,
}

impl Default for Size {
    /// About 100 requests a second: half a core for two replicas and Postgres in a debug build.
    fn default() -> Self {
        Self { rooms: 4, wanderers: 20, stayers: 12, watchers: 12 }
    }
}

/// Clients at work.
pub struct Fleet {
    pub world: World,
    pub places: Places,
    phase: watch::Sender<Phase>,
    changes: JoinSet<()>,
    watchers: JoinSet<()>,
    random: StdRng,
}

impl Fleet {
    pub fn start(recorder: Recorder, bases: Vec<String>, size: Size, seed: u64) -> Self {
        let phase = watch::Sender::new(Phase::Load);
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(2)).build().unwrap();
        let rooms = Arc::new((0..size.rooms).map(|n| format!("room{n}")).collect());
        let world = World {
            recorder,
            http,
            bases: Arc::new(bases),
            rooms,
            phase: phase.subscribe(),
            busy: Arc::default(),
        };
        let random = StdRng::seed_from_u64(seed);
        let (changes, watchers) = (JoinSet::new(), JoinSet::new());
        let mut fleet = Self { world, places: Places::default(), phase, changes, watchers, random };
        for n in 0..size.watchers {
            let mode = if n % 6 == 5 { "list" } else { "diff" };
            fleet.watch(&format!("watcher{n}"), n % size.rooms, mode);
        }
        for n in 0..size.stayers {
            fleet.stay(&format!("stayer{n}"), &format!("s{}", n / 2), (n / 2) % size.rooms, json!({})); // two tabs a user
        }
        for n in 0..size.wanderers {
            let tab = fleet.tab(&format!("wanderer{n}"), &format!("w{}", n / 2));
            let seed = fleet.random.random();
            fleet.changes.spawn(tab.wander(seed));
        }
        for n in 0..2 {
            let tab = fleet.tab(&format!("reader{n}"), &format!("r{n}"));
            fleet.changes.spawn(tab.read());
        }
        fleet
    }

    /// A tab that does nothing by itself.
    pub fn tab(&mut self, name: &str, user: &str) -> Arc<Tab> {
        Tab::new(self.world.clone(), name.to_owned(), user.to_owned(), &mut self.random)
    }

    /// One more tab that joins a room and stays.
    pub fn stay(&mut self, name: &str, user: &str, room: usize, fields: Value) {
        let tab = self.tab(name, user);
        self.changes.spawn(tab.stay(self.world.rooms[room].clone(), fields));
    }

    /// One more watcher.
    pub fn watch(&mut self, name: &str, room: usize, mode: &'static str) {
        self.watch_at(name, room, mode, self.world.bases.clone());
    }

    /// One more watcher, through other addresses.
    pub fn watch_at(&mut self, name: &str, room: usize, mode: &'static str, bases: Arc<Vec<String>>) {
        let (name, room) = (name.to_owned(), self.world.rooms[room].clone());
        let world = World { bases, ..self.world.clone() };
        self.watchers.spawn(Watching { name, room, mode, places: self.places.clone() }.follow(world));
    }

    /// No more changes from now on; the requests that are under way end.
    pub fn settle(&self) {
        self.phase.send_replace(Phase::Settle);
    }

    /// Everybody goes home; the streams are closed.
    pub async fn rest(&mut self) {
        self.phase.send_replace(Phase::Rest);
        self.changes.shutdown().await;
        while self.watchers.join_next().await.is_some() {}
    }

    /// Watchers that are not where their room is.
    pub fn behind(&self, heads: &[(String, Cursor)]) -> Vec<String> {
        let places = self.places.lock().unwrap();
        let behind = |(room, at): &(String, Option<Cursor>)| {
            let head = heads.iter().find(|(name, _)| name == room).map(|(_, head)| head);
            at.as_ref().filter(|at| at.version > 0) != head.filter(|head| head.version > 0)
        };
        places.iter().filter(|(_, place)| behind(place)).map(|(name, _)| name.clone()).collect()
    }
}
