//! What replicas of an older build send to the database, word for word, on connections that prepare it once. A newer
//! schema must answer it as before: while an upgrade goes on, and after a roll back, such replicas serve.
//!
//! Not edited any more once 0.1.0 is released. What a later release sends differently is added beside it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{Connection, Executor, Postgres, Row};
use uuid::Uuid;

const SETTINGS: &str = "set session statement_timeout = '1800ms'; set session lock_timeout = '250ms'; \
     set session idle_in_transaction_session_timeout = '5s'; set session timezone = 'UTC'";

const APPLY: &str = "select ord, outcome, epoch, version, created, member from headcount.rules, headcount.apply($1, $2, $3, $4)";

const BEAT: &str = "with relaxed as materialized (select set_config('synchronous_commit', 'off', true)) \
     select h.session_id, h.user_id, h.visible, h.idle_due \
     from relaxed, headcount.heartbeat($1, $2, $3, $4, $5, $6, $7, $8) h";

const KICKED: &str = "select k.session_id, k.room_id from headcount.kicked($1, $2) k";

const IDLE: &str = "select headcount.refresh_idle($1, $2) from headcount.rules";

const SWEEP: &str = "select s.* from headcount.rules, headcount.sweep($1, $2, $3, $4) s";

const TRIM: &str = "select headcount.trim($1) from headcount.rules";

const TAILS: &str = "select w.n, coalesce(l.lineage || substr(r.epoch, 9), l.epoch), coalesce(r.version, 0), \
            e.version, e.kind, e.user_id, e.member, e.reason \
     from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality w (room_id, epoch, version, n) \
     cross join (select headcount.lineage() as lineage, headcount.epoch() as epoch offset 0) l \
     left join headcount.rooms r on r.room_id = w.room_id \
     left join lateral ( \
         select * from headcount.events e \
         where e.room_id = w.room_id and e.version > w.version and e.version <= r.version \
           and w.epoch = l.lineage || substr(r.epoch, 9) \
         order by e.version limit $4 \
     ) e on true \
     where w.epoch <> coalesce(l.lineage || substr(r.epoch, 9), l.epoch) or w.version <> coalesce(r.version, 0) \
     order by w.n, e.version";

const WHOLE: &str = "select w.n, coalesce(l.lineage || substr(r.epoch, 9), l.epoch), coalesce(r.version, 0), m.member \
     from unnest($1::text[]) with ordinality w (room_id, n) \
     cross join (select headcount.lineage() as lineage, headcount.epoch() as epoch offset 0) l \
     left join headcount.rooms r on r.room_id = w.room_id \
     left join lateral ( \
         select headcount.member(m) as member from headcount.rosters m where m.room_id = w.room_id offset 0 \
     ) m on true";

/// A replica tells its callers to try again for this long at most: nobody's lease runs out over an upgrade.
const AWAY_MAX: Duration = Duration::from_secs(20);

const LEASE: Duration = Duration::from_secs(45);

/// What all old replicas of a test share.
#[derive(Default)]
pub struct Told {
    pub stop: AtomicBool,
    pub answered: AtomicUsize,
    /// Calls that a caller would have been told to repeat.
    pub busy: AtomicUsize,
}

/// One connection of an old replica.
pub struct OldReplica<'a> {
    connection: PgConnection,
    told: &'a Told,
}

impl<'a> OldReplica<'a> {
    pub async fn connect(options: &PgConnectOptions, told: &'a Told) -> Self {
        let mut connection = PgConnection::connect_with(options).await.unwrap();
        connection.execute(SETTINGS).await.unwrap();
        Self { connection, told }
    }

    pub fn goes_on(&self) -> bool {
        !self.told.stop.load(Ordering::Relaxed)
    }

    /// Until it is answered. What a caller would be told but "later" fails the test.
    async fn ask(&mut self, statement: impl Fn() -> Query<'static, Postgres, PgArguments>) -> Vec<PgRow> {
        let since = Instant::now();
        loop {
            match statement().fetch_all(&mut self.connection).await {
                Ok(rows) => {
                    self.told.answered.fetch_add(1, Ordering::Relaxed);
                    return rows;
                }
                Err(error) if is_busy(&error) && since.elapsed() < AWAY_MAX => {
                    self.told.busy.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => panic!("after {:?}: {error:?}", since.elapsed()),
            }
        }
    }

    /// Gives the outcome.
    pub async fn apply(&mut self, op: &str, room: &str, user: &str, session: Uuid) -> String {
        let command: Value = json!([{
            "ord": 0, "op": op, "room_id": room, "user_id": user, "session_id": session, "seq": null,
            "name": format!("The {user}"), "avatar_url": null, "status": (op == "update").then_some("dnd"),
            "state": null, "visible": null, "invisible": null, "grace": "0 ms", "lease": "45000 ms",
            "lease_hidden": "150000 ms", "limited": true
        }]);
        let rows = self
            .ask(|| sqlx::query(APPLY).bind(Json(command.clone())).bind(true).bind(500_i32).bind(100_i32))
            .await;
        let (_version, _member): (i64, Option<Value>) = (rows[0].get(3), rows[0].get(5));
        rows[0].get(1)
    }

    /// Whether the session lives.
    pub async fn beat(&mut self, user: &str, session: Uuid) -> bool {
        let user = user.to_owned();
        let rows = self
            .ask(|| {
                sqlx::query(BEAT)
                    .bind(vec![session])
                    .bind(vec![Some(user.clone())])
                    .bind(vec![None::<bool>])
                    .bind(vec![true])
                    .bind(vec![None::<i64>])
                    .bind(LEASE)
                    .bind(LEASE * 3)
                    .bind(LEASE)
            })
            .await;
        let kicked =
            self.ask(|| sqlx::query(KICKED).bind(vec![session]).bind(Some(user.clone()))).await.len();
        rows.len() == 1 && kicked == 0
    }

    /// The tasks.
    pub async fn upkeep(&mut self, sessions: &[Uuid]) {
        let sessions = sessions.to_vec();
        let second = Duration::from_secs(1);
        self.ask(|| sqlx::query(IDLE).bind(sessions.clone()).bind(LEASE)).await;
        let swept =
            self.ask(|| sqlx::query(SWEEP).bind(second).bind(LEASE).bind(1000_i32).bind(500_i32)).await;
        let expired: i32 = swept[0].get("expired");
        assert_eq!(expired, 0, "nobody expires who beats");
        self.ask(|| sqlx::query(TRIM).bind(LEASE * 1920)).await;
    }

    /// A room's epoch and version, and how many are there.
    pub async fn roster(&mut self, room: &str) -> (String, i64, usize) {
        let room = room.to_owned();
        let rows = self.ask(|| sqlx::query(WHOLE).bind(vec![room.clone()])).await;
        let members = rows.iter().filter(|row| row.get::<Option<Value>, _>(3).is_some()).count();
        (rows[0].get(1), rows[0].get(2), members)
    }

    /// What came after a position: what a watcher hears. Gives the new position.
    pub async fn tail(&mut self, room: &str, epoch: &str, version: i64) -> i64 {
        let (room, at) = (room.to_owned(), epoch.to_owned());
        let rows = self
            .ask(|| {
                sqlx::query(TAILS)
                    .bind(vec![room.clone()])
                    .bind(vec![at.clone()])
                    .bind(vec![version])
                    .bind(5000_i64)
            })
            .await;
        let mut reached = version;
        for row in rows {
            assert_eq!(row.get::<String, _>(1), epoch, "an upgrade is no reason for a snapshot");
            reached += 1;
            assert_eq!(row.get::<Option<i64>, _>(3), Some(reached), "no gap, no repeat");
        }
        reached
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["55P03", "40P01", "40001", "57014"].contains(&code.as_ref()))
}
