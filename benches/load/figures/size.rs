//! Cost must grow with the change, not with what is there: the same call on a small database and on a large one, in
//! turns.

use std::time::Duration;

use uuid::Uuid;

use crate::callers::{Callers, Calls, Pace};
use crate::peers::headcount::{join, leave};
use crate::report::{Bar, Report, percentile};
use crate::request::post;
use crate::stage::{Database, Replica, SERVER_KEY, Setup, Stage, token};

struct Side {
    replica: Replica,
    sessions: Vec<Uuid>,
    beats: Vec<f64>,
    busy: Vec<f64>,
    joins: Vec<f64>,
}

/// Sessions that are only a row: what a heartbeat meets.
async fn side(stage: &Stage, sessions: u64, rooms: u64, members: u64) -> Side {
    let database = stage.database("size").await;
    database
        .execute(&format!(
            "insert into headcount.presence (session_id, user_id, lease)
             select md5('size' || n)::uuid, 'mk~' || lpad(n::text, 8, '0'), '1 h' from generate_series(1, {sessions}) n"
        ))
        .await;
    fill(&database, rooms, members).await;
    database.execute("vacuum analyze").await;
    let sample =
        "select session_id from headcount.presence where user_id like 'mk~%' order by random() limit 50000";
    let mut connection = database.connect().await;
    let sessions = sqlx::query_scalar(sample).fetch_all(&mut connection).await.expect("Postgres answers");
    let replica = database.replica(Setup { long_leases: true, ..Setup::default() });
    Side { replica, sessions, beats: Vec::new(), busy: Vec::new(), joins: Vec::new() }
}

/// Other rooms, and a room of so many members that the joins go to.
async fn fill(database: &Database, rooms: u64, members: u64) {
    for from in (0..rooms).step_by(500) {
        let to = (from + 500).min(rooms) - 1;
        database
            .execute(&format!(
                "select count(*) from headcount.apply((
                     select jsonb_agg(jsonb_build_object('ord', n, 'op', 'join', 'room_id', 'other' || n, 'user_id',
                         'other' || n, 'session_id', md5('other' || n)::uuid, 'lease', '1 h', 'lease_hidden', '1 h'))
                     from generate_series({from}, {to}) n))"
            ))
            .await;
    }
    database.populate("full", 1, members).await;
}

/// Any of the sessions, in no order, so that each is on a different page.
struct Anyone<'a>(&'a [Uuid], usize);

impl Calls for Anyone<'_> {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) -> Option<u64> {
        self.1 = (self.1 + 1) % self.0.len();
        let body = format!("{{\"session\":\"{}\"}}", self.0[self.1]);
        request.extend_from_slice(&post("/v1/heartbeats", SERVER_KEY, &body));
        Some(0)
    }

    fn answered(&mut self, _: usize, _: u64, _: u16, body: &[u8]) {
        assert!(memchr::memmem::find(body, b"alive").is_some(), "a session is gone");
    }
}

/// One user comes and goes; only the coming is measured.
struct Visits {
    token: String,
    session: Option<Uuid>,
}

impl Calls for Visits {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) -> Option<u64> {
        if let Some(session) = self.session.take() {
            request.extend_from_slice(&leave("full", &self.token, session));
            return Some(0);
        }
        let session = Uuid::new_v4();
        self.session = Some(session);
        request.extend_from_slice(&join("full", &self.token, session));
        Some(1)
    }
}

pub async fn measure(stage: &Stage, report: &mut Report) {
    let large = stage.either((1_000_000, 100_000, 10_000), (50_000, 1000, 1000));
    let mut sides = [side(stage, 1000, 10, 10).await, side(stage, large.0, large.1, large.2).await];
    let run = stage.either(Duration::from_secs(2), Duration::from_millis(300));
    for _ in 0..stage.either(5, 2) {
        for side in &mut sides {
            let mut anyone = Anyone(&side.sessions, 0);
            let mut one = Callers::open(side.replica.address, 1);
            // Not as fast as they are answered: small updates keep a distance of some milliseconds.
            side.beats.push(percentile(&one.run(Pace::PerSecond(100.0), run, &mut anyone).millis, 0.5));
            let mut many = Callers::open(side.replica.address, 256);
            side.busy.push(many.run(Pace::Closed, run, &mut anyone).per_second());
            let mut visits = Visits { token: token("visitor"), session: None };
            let tally = one.run(Pace::Closed, run, &mut visits);
            let coming: Vec<f64> = tally.millis.iter().copied().step_by(2).collect();
            side.joins.push(percentile(&coming, 0.5));
        }
    }
    let mut medians = Vec::new();
    for (which, side) in ["small", "large"].iter().zip(&sides) {
        medians.push([
            report.runs(&format!("size_{which}_one_heartbeat_p50_ms"), &side.beats, Bar::None),
            report.runs(&format!("size_{which}_heartbeats_256_callers_per_s"), &side.busy, Bar::None),
            report.runs(&format!("size_{which}_one_join_p50_ms"), &side.joins, Bar::None),
        ]);
    }
    report.ratio("size_one_heartbeat_large_to_small_ratio", medians[1][0], medians[0][0], Bar::AtMost(1.5));
    report.ratio("size_heartbeats_large_to_small_ratio", medians[1][1], medians[0][1], Bar::None);
    report.ratio("size_one_join_large_to_small_ratio", medians[1][2], medians[0][2], Bar::None);
}
