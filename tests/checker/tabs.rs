//! The imagined clients that ask: two tabs a user, a reader of rosters, and a server that kicks.

use std::collections::BTreeSet;

use rand::RngExt;

use crate::database::LEASE_US;
use crate::recording::{Asked, Kind, Outcome, What};
use crate::simulator::{Action, MILLI, SECOND, Simulator};

pub struct Tab {
    pub user: String,
    pub session: String,
    pub rooms: BTreeSet<String>,
    pub ever: BTreeSet<String>,
    pub silent_until: u64,
    /// Beats until the end, so that somebody is there at rest.
    pub steady: bool,
}

impl Tab {
    pub fn new(n: usize) -> Self {
        Self {
            user: format!("user{}", n / 2),
            session: format!("session{n}"),
            rooms: BTreeSet::new(),
            ever: BTreeSet::new(),
            silent_until: 0,
            steady: n.is_multiple_of(3),
        }
    }
}

impl Simulator {
    /// A tab does something of its own accord, one request after the other.
    pub fn tab(&mut self, n: usize) {
        if self.now > self.traffic_ends() {
            return;
        }
        if self.now < self.tabs[n].silent_until {
            let wait = self.tabs[n].silent_until - self.now;
            return self.after(wait, Action::Tab(n));
        }
        let room = format!("room{}", self.random.random_range(0..3));
        let here: Vec<String> = self.tabs[n].rooms.iter().cloned().collect();
        let own = here.get(self.random.random_range(0..3)).or(here.first()).cloned();
        let kind = match self.random.random_range(0..100) {
            _ if own.is_none() => Kind::Join,
            0..=24 => Kind::Join,
            25..=39 => Kind::Leave,
            40..=49 => Kind::LeaveGrace,
            50..=94 => Kind::Update,
            _ => {
                self.tabs[n].silent_until = self.now + self.random.random_range(0..2 * LEASE_US);
                return self.after(MILLI, Action::Tab(n));
            }
        };
        let room = if kind == Kind::Join { room } else { own.unwrap_or(room) };
        let state = self.chance(70).then(|| format!("{{\"n\":{}}}", self.random.random_range(0..20)));
        let state = state.filter(|_| matches!(kind, Kind::Join | Kind::Update));
        self.ask(Some(n), kind, &room, state);
    }

    pub fn beat(&mut self, n: usize) {
        let speaks = self.now >= self.tabs[n].silent_until && !self.tabs[n].ever.is_empty();
        if speaks && (self.now < self.traffic_ends() || self.tabs[n].steady) {
            self.ask(Some(n), Kind::Heartbeat, "", None);
        }
        self.after(LEASE_US / 4, Action::Beat(n));
    }

    pub fn reader(&mut self) {
        let room = format!("room{}", self.random.random_range(0..3));
        self.ask(None, Kind::Roster, &room, None);
        let wait = self.random.random_range(10..200) * MILLI;
        self.after(wait, Action::Reader);
    }

    pub fn kicker(&mut self) {
        let room = format!("room{}", self.random.random_range(0..3));
        self.ask(None, Kind::Kick, &room, None);
        if self.now < self.traffic_ends() {
            self.after(4 * SECOND, Action::Kicker);
        }
    }

    fn ask(&mut self, tab: Option<usize>, kind: Kind, room: &str, state: Option<String>) {
        let op = self.ops.len();
        let user = match tab {
            Some(n) => self.tabs[n].user.clone(),
            None => format!("user{}", self.random.random_range(0..6)),
        };
        let session = tab.map(|n| self.tabs[n].session.clone()).unwrap_or_default();
        let client = tab.map_or("server".to_owned(), |n| format!("tab{n}"));
        let asked =
            Asked { op: op as u64, client, user, session, room: room.to_owned(), kind, state, seq: None };
        if let (Some(n), Kind::Join) = (tab, kind) {
            self.tabs[n].ever.insert(room.to_owned());
        }
        self.record(What::Asked(asked.clone()));
        self.ops.push((asked, tab));
        let travel = self.random.random_range(300..5000);
        if self.away {
            let outcome = Outcome::Problem { status: 503, code: "unavailable".to_owned() };
            self.after(travel, Action::Answer { op, outcome });
        } else if self.chance(4) {
            self.after(SECOND / 2, Action::Answer { op, outcome: Outcome::Lost });
            if self.chance(50) {
                let late = self.random.random_range(0..SECOND);
                self.after(travel + late, Action::Commit { op, answered: false });
            }
        } else {
            self.after(travel, Action::Commit { op, answered: true });
        }
    }
}
