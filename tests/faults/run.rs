//! One run of a scenario: a database, replicas behind links that can be broken, a fleet; at the end everything comes to
//! rest, and the checker reads the recording.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headcount::store::embedded::Durability;
use sqlx::postgres::PgConnection;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, interval};

use crate::at_rest;
use crate::checker::check;
use crate::fleet::{Fleet, Size};
use crate::postgres::{DATABASE, Database};
use crate::proxy::{Proxy, Upstream};
use crate::recorder::Recorder;
use crate::recording::{Kind, Outcome, Recording, Settings};
use crate::replica::Replica;
use crate::summary;
use crate::wait::elapse;

/// Everything that must happen by itself at the end happens within this.
const REST_WITHIN: Duration = Duration::from_secs(30);

/// A tab that is gone hears of it by its next heartbeat, and joins again.
const QUIET: Duration = Duration::from_millis(1400);

/// What a scenario needs.
#[derive(Clone)]
pub struct Plan {
    pub name: &'static str,
    pub replicas: usize,
    pub size: Size,
    pub listener: bool,
    pub durability: Durability,
    pub max_connections: u16,
    /// None for a new one.
    pub data_dir: Option<PathBuf>,
    /// More variables of the replicas.
    pub environment: Vec<(&'static str, String)>,
    /// Whether the database's clock is ours.
    pub same_clock: bool,
    pub deliver_within: Duration,
    pub p99_within: Duration,
    pub heal_within: Duration,
    /// Longer than anything that was sent can linger.
    pub linger: Duration,
}

impl Plan {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            replicas: 2,
            size: Size::default(),
            listener: true,
            durability: Durability::Off,
            max_connections: 100,
            data_dir: None,
            environment: Vec::new(),
            same_clock: true,
            // At most; the 99th of a hundred must come within 1 s. The poll finds what a hint did not tell.
            deliver_within: Duration::from_millis(2500),
            p99_within: Duration::from_secs(1),
            heal_within: Duration::from_secs(5),
            linger: Duration::from_secs(5),
        }
    }
}

/// Runs a scenario, once per seed.
pub async fn scenario(plan: Plan, body: impl AsyncFn(&mut Run)) {
    for seed in seeds() {
        eprintln!("{}: HEADCOUNT_FAULTS_SEED={seed}", plan.name);
        let mut run = Box::pin(Run::start(plan.clone(), seed)).await;
        body(&mut run).await;
        Box::pin(run.finish()).await;
    }
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    match number("HEADCOUNT_FAULTS_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("HEADCOUNT_FAULTS_SEEDS").unwrap_or(1))
            .map(|_| rand::random_range(0..1 << 32))
            .collect(),
    }
}

/// Whether everything was asked for, however long it takes.
pub fn all() -> bool {
    std::env::var("HEADCOUNT_FAULTS").is_ok_and(|which| which == "all")
}

/// A scenario that is not part of every test run says so.
pub fn only_in_all(name: &str) -> bool {
    if !all() {
        eprintln!("{name}: skipped; `make faults` runs it");
    }
    all()
}

/// A run under way.
pub struct Run {
    pub plan: Plan,
    pub seed: u64,
    pub recorder: Recorder,
    pub database: Database,
    /// Each replica's way to the database.
    pub links: Vec<Proxy>,
    /// Each replica's way to the database, for LISTEN.
    pub ears: Vec<Proxy>,
    pub replicas: Vec<Replica>,
    pub fleet: Fleet,
    /// Other links, which live as long as the run.
    pub spare: Vec<Proxy>,
    /// Other directories and processes that do.
    pub kept: Vec<Box<dyn std::any::Any>>,
    measured: BTreeMap<String, u64>,
    folder: PathBuf,
    /// One run at a time in this process, too.
    _turn: MutexGuard<'static, ()>,
}

impl Run {
    async fn start(plan: Plan, seed: u64) -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let folder = summary::folder().join(plan.name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (durability, connections) = (plan.durability, plan.max_connections);
        let database = match plan.data_dir.clone() {
            Some(dir) => Database::start_in(dir, None, durability, connections).await,
            None => Database::start(durability, connections).await,
        };
        let recorder = Recorder::new();
        let (mut links, mut ears, mut replicas) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..plan.replicas {
            links.push(Proxy::start(Upstream::Unix(database.socket())).await);
            ears.push(Proxy::start(Upstream::Unix(database.socket())).await);
            let mut environment = environment(&plan, links[n].port, ears[n].port);
            environment
                .extend(plan.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            let mut replica = Replica::new(&format!("replica{n}"), environment, &folder);
            replica.spawn();
            replicas.push(replica);
        }
        for replica in &mut replicas {
            replica.until_serving().await;
        }
        let bases = replicas.iter().map(Replica::base).collect();
        let fleet = Fleet::start(recorder.clone(), bases, plan.size, seed);
        let measured = BTreeMap::new();
        Self {
            plan,
            seed,
            recorder,
            database,
            links,
            ears,
            replicas,
            fleet,
            spare: Vec::new(),
            kept: Vec::new(),
            measured,
            folder,
            _turn: turn,
        }
    }

    /// After a fault: long enough to see what was broken, and, when there is time, how it is long after.
    pub async fn recover(&self) {
        self.load(Duration::from_secs(if all() { 10 } else { 3 })).await;
    }

    /// Before a fault.
    pub async fn warm(&self) {
        self.load(Duration::from_secs(if all() { 3 } else { 1 })).await;
    }

    /// Lets the fleet work.
    pub async fn load(&self, time: Duration) {
        elapse(time).await;
    }

    pub fn begin(&self, fault: &str) {
        self.recorder.begin(fault);
    }

    /// The fault is over: the clock of healing starts.
    pub fn heal(&self, fault: &str) {
        self.recorder.end(fault);
        self.recorder.healed();
    }

    /// A number for the summary; the greatest of all seeds counts.
    pub fn measure(&mut self, name: &str, value: u64) {
        let most = self.measured.entry(name.to_owned()).or_default();
        *most = value.max(*most);
    }

    /// P11: whatever was asked in this time was answered in time, also where the answer was no. Roster reads may take
    /// as long as noticing does.
    pub fn answers_were_quick(&mut self, from: Duration, to: Duration) {
        let mut slowest = BTreeMap::new();
        for (asked, outcome, took) in self.recorder.answers(from, to) {
            let kind = if asked.kind == Kind::Roster { "slowest_roster_ms" } else { "slowest_write_ms" };
            assert_ne!(outcome, Outcome::Lost, "{asked:?} was not answered");
            let most: &mut Duration = slowest.entry(kind).or_default();
            *most = took.max(*most);
        }
        for (kind, took) in slowest {
            self.measure(kind, summary::millis(took));
            assert!(
                took < Duration::from_millis(1250),
                "{kind} {took:?}: P11 says 1 s, and a client needs a moment"
            );
        }
    }

    /// Judges what was so far, and begins anew: other clients, rooms that nobody knows. The replicas and the database
    /// go on. So a long run costs the checker no more than many short ones.
    pub async fn next_episode(&mut self) {
        self.judge_so_far().await;
        let present = "select count(*) from headcount.presence";
        self.database.until("every session is swept", REST_WITHIN, present, |n| n == 0).await;
        // As the trim does, but at once.
        self.database
            .execute(
                "update headcount.lineage set generation = generation + 1; delete from headcount.events; \
                 delete from headcount.departures; delete from headcount.rooms",
            )
            .await;
        self.recorder = Recorder::new();
        let bases = self.replicas.iter().map(Replica::base).collect();
        self.fleet = Fleet::start(self.recorder.clone(), bases, self.plan.size, self.seed);
    }

    async fn finish(mut self) {
        self.judge_so_far().await;
        for replica in &mut self.replicas {
            assert_eq!(replica.ended(), None, "a replica never ends by itself");
            assert!(!replica.log().contains("panicked"), "a replica panicked: {}", replica.log());
        }
    }

    /// Comes to rest, reads everything, and panics with what broke a promise.
    async fn judge_so_far(&mut self) {
        self.fleet.settle();
        let mut connection = self.database.connect().await;
        self.until_rest(&mut connection).await;
        let rest = at_rest::read(&mut connection).await;
        let rest_at = self.recorder.now();
        let records = self.recorder.records();
        self.database.lawful().await;
        self.fleet.rest().await;
        let recording = Recording {
            settings: self.settings(rest_at),
            records: records.into_iter().filter(|record| record.at <= rest_at).collect(),
            log: rest.log,
            presence: rest.presence,
            rosters: rest.rosters,
        };
        self.judge(&recording);
    }

    /// Nobody is busy, nothing is due, no room has moved for longer than between two heartbeats, and every watcher is
    /// where its room is. The checker judges what has not come to that in time.
    async fn until_rest(&self, connection: &mut PgConnection) {
        let until = Instant::now() + REST_WITHIN;
        let mut looks = interval(Duration::from_millis(100));
        let (mut heads, mut since) = (Vec::new(), Instant::now());
        loop {
            looks.tick().await;
            let now = at_rest::heads(connection).await;
            if now != heads {
                (heads, since) = (now, Instant::now());
            }
            let unsettled: i64 =
                sqlx::query_scalar(at_rest::UNSETTLED).fetch_one(&mut *connection).await.unwrap();
            let busy = self.fleet.world.busy.load(Ordering::Relaxed);
            let behind = self.fleet.behind(&heads);
            if unsettled == 0 && busy == 0 && behind.is_empty() && since.elapsed() > QUIET {
                return;
            }
            if Instant::now() > until {
                eprintln!(
                    "{}: not at rest: {unsettled} due, {busy} busy, behind: {behind:?}",
                    self.plan.name
                );
                return;
            }
        }
    }

    fn settings(&self, rest_at: Duration) -> Settings {
        Settings {
            lease: Duration::from_secs(3),
            sweep_interval: Duration::from_millis(200),
            leave_grace: Duration::from_millis(500),
            deliver_within: self.plan.deliver_within,
            heal_within: self.plan.heal_within,
            spread: Duration::from_secs(1),
            linger: self.plan.linger,
            clock_offset_us: self.plan.same_clock.then(|| self.recorder.wall_offset_us()),
            clock_error: Duration::from_millis(50),
            rest_at,
            ..Settings::default()
        }
    }

    fn judge(&self, recording: &Recording) {
        let path = self.folder.join("recording.jsonl");
        recording.write(BufWriter::new(File::create(&path).unwrap())).unwrap();
        let report = check(recording);
        summary::add(self.plan.name, self.seed, &report, &self.measured);
        eprintln!("{}: {:?} {:?}", self.plan.name, report.summary, self.measured);
        let oddities = self.recorder.oddities();
        assert!(oddities.is_empty(), "{}", oddities.join("\n"));
        let seed = self.seed;
        let found: Vec<String> = report.violations.iter().take(20).map(ToString::to_string).collect();
        let (many, path) = (report.violations.len(), path.display());
        assert!(found.is_empty(), "seed {seed}, {many} violations, see {path}:\n{}", found.join("\n"));
        // The smoke part runs wherever tests run, beside whatever else does.
        let p99 = report.summary.p99_latency_outside_faults;
        let most = if all() { self.plan.p99_within } else { self.plan.deliver_within };
        assert!(p99 <= most, "seed {seed}: p99 from commit to watcher is {p99:?}");
    }
}

fn environment(plan: &Plan, link: u16, ear: u16) -> Vec<(String, String)> {
    let url = |port| format!("postgres://postgres@127.0.0.1:{port}/{DATABASE}?sslmode=disable");
    let listener = if plan.listener { "on" } else { "off" };
    vec![
        ("HEADCOUNT_DATABASE_URL".into(), url(link)),
        ("HEADCOUNT_LISTEN_DATABASE_URL".into(), url(ear)),
        ("HEADCOUNT_LISTENER".into(), listener.into()),
    ]
}
