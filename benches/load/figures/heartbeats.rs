//! Heartbeats: how many a second are answered after their commit, and what one costs.
//!
//! Beside them, in turns: a trivial actix handler on one core (what HTTP allows), the same batches driven straight at
//! Postgres (what the database allows), and the heartbeats of the taught Action Cable channel.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::callers::{Callers, Calls, Pace, Tally};
use crate::limits;
use crate::peers::actioncable;
use crate::process::{OTHER_CORE, SERVER_CORE, pin_this_thread};
use crate::report::{Bar, Report, percentile};
use crate::request::{Line, post};
use crate::stage::{Database, Replica, Setup, Stage, token};
use crate::watchers::mark;

const CALLERS: usize = 256;

const SESSIONS: u64 = 1000;

const UPDATES: &str = "select coalesce(sum(n_tup_upd), 0) from pg_stat_user_tables where schemaname = 'headcount' and relname = 'presence'";
const HOT: &str = "select coalesce(sum(n_tup_hot_upd), 0) from pg_stat_user_tables where schemaname = 'headcount' and relname = 'presence'";

/// Sessions that beat, each in its user's name.
pub struct Beats {
    requests: Vec<Vec<u8>>,
    turn: usize,
}

impl Beats {
    pub fn new(sessions: &[(String, Uuid)]) -> Self {
        let beat = |(token, session): &(String, Uuid)| {
            post("/v1/heartbeats", token, &format!("{{\"session\":\"{session}\"}}"))
        };
        Self { requests: sessions.iter().map(beat).collect(), turn: 0 }
    }
}

impl Calls for Beats {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) -> Option<u64> {
        self.turn = (self.turn + 1) % self.requests.len();
        request.extend_from_slice(&self.requests[self.turn]);
        Some(self.turn as u64)
    }

    fn answered(&mut self, _: usize, _: u64, _: u16, body: &[u8]) {
        assert!(memchr::memmem::find(body, b"alive").is_some(), "a session is gone");
    }
}

/// Makes sessions by the rules, and knows their users' tokens.
pub async fn sessions(database: &Database, room: &str, count: u64) -> Vec<(String, Uuid)> {
    database.populate(room, 1, count).await;
    let mut connection = database.connect().await;
    let rows: Vec<(String, Uuid)> =
        sqlx::query_as("select user_id, session_id from headcount.memberships where room_id = $1")
            .bind(room)
            .fetch_all(&mut connection)
            .await
            .expect("Postgres answers");
    rows.into_iter().map(|(user, session)| (token(&user), session)).collect()
}

#[derive(Default)]
struct Runs {
    ours: Vec<f64>,
    trivial: Vec<f64>,
    postgres: Vec<f64>,
    p99: Vec<f64>,
    cpu_headcount: Vec<f64>,
    cpu_postgres: Vec<f64>,
    wal: Vec<f64>,
    hot: Vec<f64>,
}

pub async fn measure(stage: &Stage, report: &mut Report) {
    let database = stage.database("beats").await;
    let replica = database.replica(Setup { long_leases: true, ..Setup::default() });
    let sessions = sessions(&database, "beats", SESSIONS).await;
    let (trivial, trivial_address) = limits::launch("trivial", Some(SERVER_CORE));
    let mut to_ours = Callers::open(replica.address, CALLERS);
    let mut to_trivial = Callers::open(trivial_address, CALLERS);
    let (run, rounds) =
        (stage.either(Duration::from_secs(4), Duration::from_millis(500)), stage.either(5, 2));
    let mut runs = Runs::default();
    let mut beats = Beats::new(&sessions);
    to_ours.run(Pace::Closed, run / 2, &mut beats); // what is cold is warm then
    to_trivial.run(Pace::Closed, run / 4, &mut Plain(&beats.requests, 0));
    for _ in 0..rounds {
        let before = Before::now(&database, &replica).await;
        let tally = to_ours.run(Pace::Closed, run, &mut beats);
        runs.add(&database, &replica, &before, &tally).await;
        pin_this_thread(Some(OTHER_CORE));
        runs.trivial.push(to_trivial.run(Pace::Closed, run, &mut Plain(&beats.requests, 0)).per_second());
        pin_this_thread(None);
        runs.postgres.push(straight(&database, &sessions, run).await);
    }
    drop(trivial);
    let ours = runs.record(report);
    untouched(stage, &database, &mut to_ours, &mut beats, report).await;
    drop(replica);
    if let Err(why) = taught(stage, report, ours).await {
        report.fail("heartbeats_actioncable", &why);
    }
}

struct Plain<'a>(&'a [Vec<u8>], usize);

impl Calls for Plain<'_> {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) -> Option<u64> {
        self.1 = (self.1 + 1) % self.0.len();
        request.extend_from_slice(&self.0[self.1]);
        Some(0)
    }
}

struct Before {
    wal: f64,
    updates: f64,
    hot: f64,
    headcount: Duration,
    postgres: Duration,
}

impl Before {
    async fn now(database: &Database, replica: &Replica) -> Self {
        Self {
            wal: database.wal().await,
            updates: database.number(UPDATES).await,
            hot: database.number(HOT).await,
            headcount: replica.process.cpu(),
            postgres: database.cpu(),
        }
    }
}

impl Runs {
    async fn add(&mut self, database: &Database, replica: &Replica, before: &Before, tally: &Tally) {
        let beats = tally.done as f64;
        let micros =
            |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / beats;
        self.cpu_headcount.push(micros(replica.process.cpu(), before.headcount));
        self.cpu_postgres.push(micros(database.cpu(), before.postgres));
        self.wal.push((database.wal().await - before.wal) / beats);
        self.ours.push(tally.per_second());
        self.p99.push(percentile(&tally.millis, 0.99));
        // Statistics come up to a second late, after the connection was idle.
        let updates = database.until_at_least(UPDATES, before.updates + beats * 0.9).await - before.updates;
        if updates > 0.0 {
            self.hot.push((database.number(HOT).await - before.hot) / updates);
        }
    }

    fn record(&self, report: &mut Report) -> f64 {
        let ours = report.runs("heartbeats_headcount_per_s", &self.ours, Bar::None);
        let trivial = report.runs("heartbeats_trivial_handler_per_s", &self.trivial, Bar::None);
        let postgres = report.runs("heartbeats_postgres_alone_rows_per_s", &self.postgres, Bar::None);
        report.ratio("heartbeats_to_trivial_handler_ratio", ours, trivial, Bar::AtLeast(0.4));
        report.ratio("heartbeats_to_postgres_alone_ratio", ours, postgres, Bar::None);
        report.runs("heartbeats_p99_ms", &self.p99, Bar::None);
        report.runs("heartbeat_cpu_headcount_us", &self.cpu_headcount, Bar::None);
        report.runs("heartbeat_cpu_postgres_us", &self.cpu_postgres, Bar::None);
        report.runs("heartbeat_wal_bytes", &self.wal, Bar::AtMost(350.0));
        report.runs("heartbeat_hot_updates_share", &self.hot, Bar::None);
        ours
    }
}

/// The batches that the service makes of 256 callers, one connection, nothing else.
async fn straight(database: &Database, sessions: &[(String, Uuid)], run: Duration) -> f64 {
    let mut connection = database.connect().await;
    let mut ids: Vec<Uuid> = sessions.iter().map(|(_, session)| *session).collect();
    ids.sort_unstable();
    let begin = Instant::now();
    let mut rows = 0;
    for batch in ids.chunks(CALLERS).cycle() {
        if begin.elapsed() > run {
            break;
        }
        let statement = "with relaxed as materialized (select set_config('synchronous_commit', 'off', true)) \
             select h.session_id, h.user_id, h.visible, h.idle_due from relaxed, headcount.heartbeat( \
                 $1, array_fill(null::text, array[cardinality($1)]), array_fill(null::boolean, array[cardinality($1)]), \
                 array_fill(false, array[cardinality($1)]), array_fill(null::bigint, array[cardinality($1)]), '1 h', '1 h' \
             ) h";
        rows += sqlx::query(statement)
            .bind(batch)
            .fetch_all(&mut connection)
            .await
            .expect("Postgres answers")
            .len();
    }
    rows as f64 / begin.elapsed().as_secs_f64()
}

/// A heartbeat notifies nobody, logs nothing and locks no room: it is answered while rooms and events are locked as
/// hard as they can be.
async fn untouched(
    stage: &Stage,
    database: &Database,
    callers: &mut Callers,
    beats: &mut Beats,
    report: &mut Report,
) {
    let mut listener = PgListener::connect_with(
        &sqlx::PgPool::connect_with(database.options.clone()).await.expect("Postgres takes connections"),
    )
    .await
    .expect("Postgres takes connections");
    listener.listen("headcount").await.expect("anybody may listen");
    let events = database.number("select count(*) from headcount.events").await;
    let mut connection = database.connect().await;
    let mut locking = sqlx::Connection::begin(&mut connection).await.expect("Postgres answers");
    sqlx::query("lock table headcount.rooms, headcount.events in access exclusive mode")
        .execute(&mut *locking)
        .await
        .expect("nobody holds them for long");
    let length = stage.either(Duration::from_secs(1), Duration::from_millis(300));
    let tally = callers.run(Pace::Closed, length, beats);
    locking.rollback().await.expect("Postgres answers");
    let mut heard = 0.0;
    while let Ok(Ok(notification)) = tokio::time::timeout(Duration::from_millis(200), listener.recv()).await {
        if !notification.payload().starts_with('?') {
            heard += 1.0; // not what a replica sends itself every 5 s, to know that it hears
        }
    }
    let logged = database.number("select count(*) from headcount.events").await - events;
    report.value("heartbeats_notifications", heard, Bar::AtMost(0.0));
    report.value("heartbeats_events", logged, Bar::AtMost(0.0));
    report.value("heartbeats_refused_while_rooms_are_locked", tally.refused as f64, Bar::AtMost(0.0));
    report.value("heartbeats_while_rooms_are_locked_per_s", tally.per_second(), Bar::None);
}

async fn taught(stage: &Stage, report: &mut Report, ours: f64) -> Result<(), String> {
    let peer = actioncable::start(stage).await?;
    for (members, bar) in [(100, 20.0), (1000, 200.0)] {
        Line::open(peer.address).ask(&post(&format!("/members?count={members}"), "", ""));
        let run = stage.either(Duration::from_secs(4), Duration::from_secs(1));
        let rates: Vec<f64> = (0..stage.either(3, 1)).map(|_| taught_rate(peer.address, run)).collect();
        let rate = report.runs(&format!("heartbeats_actioncable_{members}_members_per_s"), &rates, Bar::None);
        report.ratio(
            &format!("heartbeats_to_actioncable_{members}_members_ratio"),
            ours,
            rate,
            Bar::AtLeast(bar),
        );
    }
    Ok(())
}

/// Sixteen members beat as fast as they are answered: more than one Ruby process can use.
fn taught_rate(address: std::net::SocketAddr, run: Duration) -> f64 {
    let mut streams: Vec<TcpStream> = (1..=16)
        .map(|n| {
            let mut stream = TcpStream::connect(address).expect("puma accepts");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a minute is not zero");
            let script = actioncable::present(&mark(n));
            stream.write_all(&script.hello).expect("puma reads");
            let (wait, say) = script.then.expect("a subscription follows");
            until_reads(&mut stream, wait);
            stream.write_all(&say).expect("puma reads");
            until_reads(&mut stream, script.ready);
            stream
        })
        .collect();
    beat_all(&mut streams, run / 2); // until the lists that their coming broadcast are out of the way
    beat_all(&mut streams, run)
}

fn beat_all(streams: &mut [TcpStream], run: Duration) -> f64 {
    let beat = actioncable::heartbeat();
    let begin = Instant::now();
    let beat_one = |stream: &mut TcpStream| {
        let mut answered = 0_u32;
        while begin.elapsed() < run {
            stream.write_all(&beat).expect("puma reads");
            until_reads(stream, b"beaten");
            answered += 1;
        }
        answered
    };
    let answered: u32 = std::thread::scope(|scope| {
        let callers: Vec<_> = streams.iter_mut().map(|stream| scope.spawn(|| beat_one(stream))).collect();
        callers.into_iter().map(|caller| caller.join().expect("callers do not panic")).sum()
    });
    f64::from(answered) / begin.elapsed().as_secs_f64()
}

fn until_reads(stream: &mut TcpStream, needle: &[u8]) {
    let mut seen = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while memchr::memmem::find(&seen, needle).is_none() {
        let read = stream.read(&mut chunk).expect("puma answers");
        assert!(read > 0, "puma closed the connection");
        seen.drain(..seen.len().saturating_sub(needle.len()));
        seen.extend_from_slice(&chunk[..read]);
    }
}
