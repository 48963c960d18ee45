//! A deployment that is only imagined: tabs, watchers, readers, a database and outages, in an order that a seed
//! decides. Gives the recording that the fault tests would have recorded. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::database::{Bug, Database, GRACE_US, Key, LEASE_US, OFFSET_US, SWEEP_US};
use crate::recording::{Asked, Edge, Kind, Outcome, Record, Recording, Settings, What};
use crate::tabs::Tab;
use crate::watcher::Watcher;

pub const SECOND: u64 = 1_000_000;
pub const MILLI: u64 = 1000;

/// What to imagine.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub seconds: u64,
    pub outages: bool,
    pub failover: bool,
    /// Whether the offset of the database's clock is known.
    pub clock: bool,
    pub bug: Option<Bug>,
}

impl Plan {
    pub fn calm(seed: u64) -> Self {
        Self { seed, seconds: 12, outages: false, failover: false, clock: true, bug: None }
    }
}

#[derive(Clone)]
pub(crate) enum Action {
    Tab(usize),
    Beat(usize),
    Reader,
    Kicker,
    Commit { op: usize, answered: bool },
    Answer { op: usize, outcome: Outcome },
    Sweep,
    Open(usize),
    First(usize),
    Poll(usize),
    Sync(usize),
    Cut(usize),
    Outage(Edge),
    Backup,
    Failover,
}

pub struct Simulator {
    plan: Plan,
    pub(crate) random: StdRng,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Action>,
    queued: u64,
    db: Database,
    before: Vec<(u64, Database)>,
    backup: Option<Database>,
    pub(crate) away: bool,
    pub(crate) tabs: Vec<Tab>,
    watchers: Vec<Watcher>,
    streams: u64,
    pub(crate) ops: Vec<(Asked, Option<usize>)>,
    pub records: Vec<Record>,
}

/// Imagines.
pub fn simulate(plan: Plan) -> Recording {
    let mut simulator = Simulator::new(plan);
    simulator.start();
    simulator.run()
}

impl Simulator {
    fn new(plan: Plan) -> Self {
        let rooms: Vec<String> = (0..3).map(|n| format!("room{n}")).collect();
        let db = Database::new(&rooms, plan.bug);
        Self {
            plan,
            random: StdRng::seed_from_u64(plan.seed),
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            before: Vec::new(),
            backup: None,
            away: false,
            tabs: (0..12).map(Tab::new).collect(),
            watchers: (0..9).map(|n| Watcher::new(n, &rooms[n % 3])).collect(),
            streams: 0,
            ops: Vec::new(),
            records: Vec::new(),
            db,
        }
    }

    fn start(&mut self) {
        (0..self.watchers.len()).for_each(|n| self.after(n as u64 * MILLI, Action::Open(n)));
        for n in 0..self.tabs.len() {
            let wait = self.random.random_range(0..SECOND);
            self.after(wait, Action::Tab(n));
            self.after(wait + SECOND, Action::Beat(n));
        }
        self.after(SWEEP_US, Action::Sweep);
        self.after(SECOND, Action::Reader);
        self.after(3 * SECOND, Action::Kicker);
        let middle = self.plan.seconds * SECOND / 3;
        if self.plan.outages {
            self.after(middle, Action::Outage(Edge::Begin));
            self.after(middle + 3 * SECOND, Action::Outage(Edge::End));
        }
        if self.plan.failover {
            let at = middle + 5 * SECOND;
            self.after(at - 60 * MILLI, Action::Backup);
            self.after(at, Action::Failover);
            self.after(at + 2 * SECOND, Action::Outage(Edge::End));
        }
    }

    pub(crate) fn traffic_ends(&self) -> u64 {
        self.plan.seconds * SECOND
    }

    fn rest(&self) -> u64 {
        self.traffic_ends() + 3 * SECOND
    }

    fn run(mut self) -> Recording {
        while let Some(((at, _), action)) = self.queue.pop_first().filter(|((at, _), _)| *at < self.rest()) {
            self.now = at;
            self.act(action);
        }
        let settings = Settings {
            lease: Duration::from_micros(LEASE_US),
            sweep_interval: Duration::from_micros(SWEEP_US),
            leave_grace: Duration::from_micros(GRACE_US),
            linger: Duration::from_secs(2),
            clock_offset_us: self.plan.clock.then_some(OFFSET_US),
            rest_at: Duration::from_micros(self.rest()),
            ..Settings::default()
        };
        let log = self.db.log.values().flatten().cloned().collect();
        let (presence, rosters) = (self.db.presence(), self.db.rosters());
        Recording { settings, records: self.records, log, presence, rosters }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Tab(n) => self.tab(n),
            Action::Beat(n) => self.beat(n),
            Action::Reader => self.reader(),
            Action::Kicker => self.kicker(),
            Action::Commit { op, answered } => self.commit(op, answered),
            Action::Answer { op, outcome } => self.answer(op, outcome),
            Action::Sweep => self.sweep(),
            Action::Open(n) => self.open(n),
            Action::First(n) => self.tell(n, true, false),
            Action::Poll(n) => self.tell(n, false, false),
            Action::Sync(n) => {
                self.after(2 * SECOND, Action::Sync(n));
                self.tell(n, false, true);
            }
            Action::Cut(n) => self.cut(n),
            Action::Outage(edge) => self.outage(edge),
            Action::Backup => self.backup = Some(self.db.clone()),
            Action::Failover => {
                self.db = self.backup.take().expect("a backup came before");
                self.db.epoch = "bb".to_owned();
                self.outage(Edge::Begin);
            }
        }
    }

    pub(crate) fn after(&mut self, wait: u64, action: Action) {
        self.queued += 1;
        self.queue.insert((self.now + wait, self.queued), action);
    }

    pub(crate) fn record(&mut self, what: What) {
        self.records.push(Record { at: Duration::from_micros(self.now), what });
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn outage(&mut self, edge: Edge) {
        self.away = edge == Edge::Begin;
        self.record(What::Fault { name: "postgres away".to_owned(), edge, only: None });
        if !self.away {
            self.record(What::Healed);
            (0..self.watchers.len()).for_each(|n| self.after(100 * MILLI, Action::Poll(n)));
        }
    }

    fn sweep(&mut self) {
        if !self.away {
            self.db.sweep(self.now);
            self.moved();
        }
        if self.now + SECOND < self.rest() {
            self.after(SWEEP_US, Action::Sweep);
        }
    }

    fn commit(&mut self, op: usize, answered: bool) {
        let (asked, tab) = self.ops[op].clone();
        if self.away {
            if answered {
                self.after(SECOND / 2, Action::Answer { op, outcome: Outcome::Lost });
            }
            return;
        }
        let write = !matches!(asked.kind, Kind::Roster | Kind::Heartbeat);
        let forgets = [Some(Bug::AcksLost), Some(Bug::AcksEarly)].contains(&self.plan.bug);
        let kept = (forgets && answered && write && self.chance(5)).then(|| self.db.clone());
        let outcome = self.carry_out(&asked, tab);
        if let Some(kept) = kept {
            self.db = kept;
            if self.plan.bug == Some(Bug::AcksEarly) {
                self.after(SECOND, Action::Commit { op, answered: false });
            }
        }
        self.moved();
        if answered {
            let travel = self.random.random_range(300..5000);
            self.after(travel, Action::Answer { op, outcome });
        }
    }

    fn carry_out(&mut self, asked: &Asked, tab: Option<usize>) -> Outcome {
        let (now, state) = (self.now, asked.state.as_deref());
        let (user, session) = (asked.user.clone(), asked.session.clone());
        let key = Key { room: asked.room.clone(), user, session };
        match asked.kind {
            Kind::Join => self.db.join(now, &key, state),
            Kind::Update => self.db.update(now, &key, state),
            Kind::Leave => self.db.leave(now, &key, false),
            Kind::LeaveGrace => self.db.leave(now, &key, true),
            Kind::Kick => self.db.kick(now, &key.room, &key.user),
            Kind::Heartbeat => {
                let ever = tab.map(|n| self.tabs[n].ever.clone()).unwrap_or_default();
                let known: Vec<Key> = ever.into_iter().map(|room| Key { room, ..key.clone() }).collect();
                self.db.heartbeat(now, &key.user, &key.session, &known)
            }
            Kind::Roster => {
                let db = self.readable();
                Outcome::Roster { cursor: db.cursor(&key.room), members: db.members(&key.room), stale: false }
            }
        }
    }

    /// The database as a reader sees it.
    fn readable(&mut self) -> &Database {
        if self.plan.bug != Some(Bug::RostersStale) {
            return &self.db;
        }
        let (now, db) = (self.now, self.db.clone());
        self.before.push((now, db));
        let old = self.before.iter().rev().find(|(at, _)| at + SECOND / 2 < now);
        old.map_or(&self.db, |(_, db)| db)
    }

    fn answer(&mut self, op: usize, outcome: Outcome) {
        let (asked, tab) = self.ops[op].clone();
        self.record(What::Answered { op: asked.op, outcome: outcome.clone() });
        let Some(n) = tab else { return };
        let rooms = &mut self.tabs[n].rooms;
        match (asked.kind, outcome) {
            (Kind::Join, Outcome::Ok { .. }) => drop(rooms.insert(asked.room)),
            (Kind::Leave | Kind::LeaveGrace, Outcome::Ok { .. }) => drop(rooms.remove(&asked.room)),
            (Kind::Update, Outcome::Problem { status: 404, .. }) => drop(rooms.remove(&asked.room)),
            (_, Outcome::Gone) => rooms.clear(),
            _ => {}
        }
        if asked.kind != Kind::Heartbeat {
            let wait = self.random.random_range(10..800) * MILLI;
            self.after(wait, Action::Tab(n));
        }
    }

    /// Wakes the watchers of rooms that have moved.
    fn moved(&mut self) {
        for n in 0..self.watchers.len() {
            let head = self.db.cursor(&self.watchers[n].room);
            if self.watchers[n].wakes(&head) {
                let slow = self.plan.bug == Some(Bug::StreamsSlow) && self.chance(5);
                let wait = if slow { 3 * SECOND } else { self.random.random_range(1..60) * MILLI };
                self.after(wait, Action::Poll(n));
            }
        }
    }

    fn open(&mut self, n: usize) {
        self.streams += 1;
        let (stream, fresh) = (self.streams, self.chance(20));
        let opened = self.watchers[n].open(stream, fresh);
        self.record(opened);
        if self.away {
            let closed = self.watchers[n].close();
            self.record(closed);
            return self.after(SECOND / 2, Action::Open(n));
        }
        let wait = self.random.random_range(300..5000);
        self.after(wait, Action::First(n));
        self.after(2 * SECOND, Action::Sync(n));
        if n < 4 {
            let age = self.random.random_range(500..6000) * MILLI;
            self.after(age, Action::Cut(n));
        }
    }

    fn tell(&mut self, n: usize, first: bool, sync: bool) {
        if self.away {
            return if first {
                self.after(300 * MILLI, Action::First(n));
            };
        }
        let mischief = self.chance(10);
        let frames = self.watchers[n].tell(&self.db, first, sync, mischief);
        frames.into_iter().for_each(|frame| self.record(What::Frame(frame)));
    }

    fn cut(&mut self, n: usize) {
        if !self.watchers[n].is_open() {
            return;
        }
        if self.chance(30) {
            let bye = self.watchers[n].bye();
            self.record(What::Frame(bye));
        }
        let closed = self.watchers[n].close();
        self.record(closed);
        let wait = self.random.random_range(0..400) * MILLI;
        self.after(wait, Action::Open(n));
    }
}
