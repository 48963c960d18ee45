//! Joins and leaves a second, answered after their commit; against one transaction each on the same Postgres.

use std::net::SocketAddr;
use std::time::Duration;

use uuid::Uuid;

use super::single;
use crate::callers::{Callers, Calls, Pace};
use crate::peers::headcount::{join, leave};
use crate::report::{Bar, Report, percentile};
use crate::stage::{Setup, Stage, token};
use crate::watchers::mark;

/// Users there are; a run ends early when all of them have joined.
const USERS: u64 = 60_000;

/// Users join, each in a room of its own turn.
pub struct Joins<'a> {
    tokens: &'a [String],
    rooms: u64,
    turn: u64,
    under_way: Vec<Option<(u64, Uuid)>>,
    /// Who did: number of the user, session.
    pub joined: Vec<(u64, Uuid)>,
}

impl<'a> Joins<'a> {
    pub fn new(tokens: &'a [String], rooms: u64, callers: usize) -> Self {
        Self { tokens, rooms, turn: 0, under_way: vec![None; callers], joined: Vec::new() }
    }
}

/// Spread, so that a batch holds many rooms.
fn room(number: u64, rooms: u64) -> String {
    format!("room{}", number.wrapping_mul(7919) % rooms)
}

impl Calls for Joins<'_> {
    fn next(&mut self, connection: usize, request: &mut Vec<u8>) -> Option<u64> {
        let token = self.tokens.get(usize::try_from(self.turn).ok()?)?;
        let session = Uuid::new_v4();
        request.extend_from_slice(&join(&room(self.turn, self.rooms), token, session));
        self.under_way[connection] = Some((self.turn, session));
        self.turn += 1;
        Some(self.turn - 1)
    }

    fn answered(&mut self, connection: usize, _: u64, status: u16, _: &[u8]) {
        self.joined.extend(self.under_way[connection].take().filter(|_| status == 200));
    }
}

/// Those who joined leave.
pub struct Leaves<'a> {
    pub tokens: &'a [String],
    pub rooms: u64,
    pub joined: Vec<(u64, Uuid)>,
}

impl Calls for Leaves<'_> {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) -> Option<u64> {
        let (number, session) = self.joined.pop()?;
        let token = &self.tokens[usize::try_from(number).ok()?];
        request.extend_from_slice(&leave(&room(number, self.rooms), token, session));
        Some(number)
    }
}

#[derive(Default)]
struct Runs {
    joins: Vec<f64>,
    leaves: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    refused: u64,
}

impl Runs {
    fn record(&self, what: &str, report: &mut Report, bar: Bar) -> f64 {
        let joins = report.runs(&format!("joins_{what}_per_s"), &self.joins, bar);
        report.runs(&format!("leaves_{what}_per_s"), &self.leaves, Bar::None);
        report.runs(&format!("joins_{what}_p50_ms"), &self.p50, Bar::None);
        report.runs(&format!("joins_{what}_p99_ms"), &self.p99, Bar::None);
        report.value(&format!("joins_{what}_refused"), self.refused as f64, Bar::AtMost(0.0));
        joins
    }

    /// For so long joins, then all of those leave.
    fn once(&mut self, callers: &mut Callers, count: usize, rooms: u64, run: Duration, tokens: &[String]) {
        let mut joins = Joins::new(tokens, rooms, count);
        let tally = callers.run(Pace::Closed, run, &mut joins);
        self.refused += tally.refused;
        self.joins.push(tally.per_second());
        self.p50.push(percentile(&tally.millis, 0.5));
        self.p99.push(percentile(&tally.millis, 0.99));
        let mut leaves = Leaves { tokens, rooms, joined: joins.joined };
        let tally = callers.run(Pace::Closed, run * 20, &mut leaves);
        self.refused += tally.refused;
        self.leaves.push(tally.per_second());
    }
}

fn tokens(count: u64) -> Vec<String> {
    (0..count).map(|number| token(&mark(number))).collect()
}

/// The figures to compare versions by: a thousand rooms and one, 256 callers, one replica. Less than a minute.
pub async fn measure(stage: &Stage, report: &mut Report) {
    let database = stage.database("joins").await;
    let replica = database.replica(Setup::default());
    let tokens = tokens(stage.either(USERS, 10_000));
    let mut callers = Callers::open(replica.address, 256);
    let (run, rounds) =
        (stage.either(Duration::from_secs(2), Duration::from_millis(500)), stage.either(4, 2));
    let (mut many, mut hot) = (Runs::default(), Runs::default());
    let (mut notifying, mut function) = (Vec::new(), Vec::new());
    single::prepare(&database).await;
    Runs::default().once(&mut callers, 256, 1000, run, &tokens); // users and rooms are there then
    for round in 0..rounds {
        many.once(&mut callers, 256, 1000, run, &tokens);
        notifying.push(single::rate(&database, single::NOTIFYING, run, round).await);
        hot.once(&mut callers, 256, 1, run, &tokens);
        function.push(single::rate(&database, single::FUNCTION, run, round).await);
    }
    let ours = many.record("1000_rooms_256_callers", report, Bar::AtLeast(8000.0));
    hot.record("1_room_256_callers", report, Bar::None);
    let notifying = report.runs("joins_single_transactions_with_notify_per_s", &notifying, Bar::None);
    let function = report.runs("joins_single_calls_of_headcount_join_per_s", &function, Bar::None);
    report.ratio("joins_to_single_transactions_ratio", ours, notifying, Bar::AtLeast(3.0));
    report.ratio("joins_to_single_calls_ratio", ours, function, Bar::None);
}

/// How it grows with the callers, and with a second replica.
pub async fn measure_callers(stage: &Stage, report: &mut Report) {
    let database = stage.database("callers").await;
    let replicas = [database.replica(Setup::default()), database.replica(Setup::default())];
    let addresses: Vec<SocketAddr> = replicas.iter().map(|replica| replica.address).collect();
    let tokens = tokens(stage.either(USERS, 10_000));
    let (run, rounds) =
        (stage.either(Duration::from_secs(2), Duration::from_millis(300)), stage.either(3, 1));
    let mut cases: Vec<(usize, u64, usize, Runs)> = Vec::new();
    for count in [1, 2] {
        for rooms in [1, 1000] {
            cases.extend([1, 32, 256].map(|callers| (count, rooms, callers, Runs::default())));
        }
    }
    for _ in 0..rounds {
        for (count, rooms, callers, runs) in &mut cases {
            let mut open = Callers::open_on(&addresses[..*count], *callers);
            runs.once(&mut open, *callers, *rooms, run, &tokens);
        }
    }
    for (count, rooms, callers, runs) in &cases {
        runs.record(&format!("{rooms}_rooms_{callers}_callers_{count}_replicas"), report, Bar::None);
    }
}
