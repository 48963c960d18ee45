//! The same steps, done by Postgres: each method is one call of the SQL functions, in the model's words.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{Executor, FromRow};
use uuid::Uuid;

use crate::plain::{GRACE, IDLE_AFTER, LEASE, LEASE_HIDDEN};
use crate::steps::{Beat, Command, Op, Profile, Session};

/// Sweeps are due this often; three times as long without one is an outage. Far longer than a case takes.
const SWEEP_INTERVAL: i64 = 10;

/// What a command was answered.
#[derive(FromRow, Debug)]
pub struct Answer {
    pub outcome: String,
    pub epoch: String,
    pub version: i64,
    pub created: bool,
    pub member: Option<Json<Value>>,
}

#[derive(Deserialize, Debug)]
pub struct Event {
    pub room_id: String,
    pub version: i64,
    pub kind: String,
    pub user_id: String,
    pub member: Option<Value>,
    pub reason: Option<String>,
}

/// Everything there is to see, times in whole steps of 20 s before now.
#[derive(Deserialize, Debug)]
pub struct Picture {
    /// Version, epoch and count of members.
    pub rooms: BTreeMap<String, (i64, String, usize)>,
    pub rosters: Vec<(String, Value)>,
    pub presence: Value,
    pub memberships: Value,
    pub online: Value,
    pub users: Value,
    /// Users without a time at which they were last seen.
    pub unseen: Vec<String>,
    /// Those after the versions that were asked for.
    pub events: Vec<Event>,
}

const FORGET: &str = "delete from headcount.memberships; delete from headcount.presence; \
     delete from headcount.users; delete from headcount.rooms; delete from headcount.events; \
     delete from headcount.departures; \
     update headcount.sweep_state set leases_from = '-infinity', recovering = false";

const PICTURE: &str = "select json_build_object(
    'rooms', (select coalesce(json_object_agg(room_id, json_build_array(version, epoch, member_count)), '{}')
        from headcount.rooms),
    'rosters', (select coalesce(json_agg(json_build_array(room_id, headcount.member(r))), '[]')
        from headcount.rosters r),
    'presence', (select coalesce(json_agg(json_build_array(session_id, user_id, visible, idle, seq,
            extract(epoch from lease)::int, steps(last_active), steps(last_seen)) order by session_id), '[]')
        from headcount.presence),
    'memberships', (select coalesce(json_agg(json_build_array(room_id, user_id, session_id, status, state, seq,
            invisible, steps(leaving_at)) order by room_id, session_id), '[]')
        from headcount.memberships),
    'online', (select coalesce(json_agg(json_build_array(user_id, rooms) order by user_id), '[]')
        from headcount.online),
    'users', (select coalesce(json_agg(json_build_array(user_id, name, avatar_url) order by user_id), '[]')
        from headcount.users),
    'unseen', (select coalesce(json_agg(user_id), '[]') from headcount.users where last_seen_at is null),
    'events', (select coalesce(json_agg(row_to_json(e) order by e.room_id, e.version), '[]')
        from headcount.events e
        where e.version > coalesce(($1 ->> e.room_id)::bigint, 0)))";

pub struct Database {
    connection: PgConnection,
}

impl Database {
    pub async fn new(mut connection: PgConnection) -> Self {
        // Nothing here is about durability.
        let setting = "set synchronous_commit = off; create function steps(timestamptz) returns integer language sql \
             as $$ select round(extract(epoch from clock_timestamp() - $1) / 20)::integer $$";
        connection.execute(setting).await.unwrap();
        Self { connection }
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// As on the first day.
    pub async fn forget(&mut self) {
        self.connection.execute(FORGET).await.unwrap();
    }

    /// Answers only what the function for that verb gives; the rest is false and null.
    pub async fn single(&mut self, command: &Command) -> Vec<Answer> {
        let Command { op, seq, status, visible, invisible, profile, .. } = command;
        let call =
            sqlx::query_as(single_call(*op)).bind(command.room.to_string()).bind(command.user.to_string());
        let call = match op {
            Op::Kick => call,
            Op::Leave { grace } => {
                let grace = if *grace { GRACE } else { 0 };
                call.bind(command.session.uuid()).bind(seq).bind(seconds(grace))
            }
            Op::Update => {
                let call = call.bind(command.session.uuid()).bind(seq).bind(status).bind(state(command));
                call.bind(invisible)
            }
            Op::Join => {
                let call = call.bind(command.session.uuid()).bind(seq).bind(status).bind(state(command));
                call.bind(invisible).bind(visible).bind(&profile.name).bind(&profile.avatar_url)
            }
        };
        vec![call.fetch_one(&mut self.connection).await.unwrap()]
    }

    /// The answers in the order of the commands, which are sent in another order if `shuffled`.
    pub async fn batch(&mut self, commands: &[Command], wait: bool, shuffled: bool) -> Vec<Answer> {
        let mut batch: Vec<Value> =
            commands.iter().enumerate().map(|(ord, command)| numbered(ord, command)).collect();
        if shuffled {
            batch.reverse();
        }
        let call =
            "select outcome, epoch, version, created, member from headcount.apply($1, $2) order by ord";
        sqlx::query_as(call).bind(Json(batch)).bind(wait).fetch_all(&mut self.connection).await.unwrap()
    }

    /// Beats, and as the service does, refreshes the idleness of those for whom it is due. Gives what was found.
    pub async fn heartbeat(&mut self, beats: &[Beat]) -> Vec<(Uuid, bool, bool)> {
        let call = "select session_id, visible, idle_due \
             from headcount.heartbeat($1, $2, $3, $4, $5, $6, $7, $8)";
        sqlx::query_as(call)
            .bind(beats.iter().map(|b| b.session.uuid()).collect::<Vec<_>>())
            .bind(beats.iter().map(|b| b.user.map(|u| u.to_string())).collect::<Vec<_>>())
            .bind(beats.iter().map(|b| b.visible).collect::<Vec<_>>())
            .bind(beats.iter().map(|b| b.active).collect::<Vec<_>>())
            .bind(beats.iter().map(|b| b.seq).collect::<Vec<_>>())
            .bind(seconds(LEASE))
            .bind(seconds(LEASE_HIDDEN))
            .bind(seconds(IDLE_AFTER))
            .fetch_all(&mut self.connection)
            .await
            .unwrap()
    }

    pub async fn refresh_idle(&mut self, sessions: &[Session]) {
        sqlx::query("select headcount.refresh_idle($1, $2)")
            .bind(sessions.iter().map(|s| s.uuid()).collect::<Vec<_>>())
            .bind(seconds(IDLE_AFTER))
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    pub async fn put_users(&mut self, profiles: &[Profile]) {
        let call = "select from headcount.put_users(array( \
             select (user_id, name, avatar_url, null)::headcount.profile \
             from unnest($1::text[], $2::text[], $3::text[]) as given (user_id, name, avatar_url)))";
        sqlx::query(call)
            .bind(profiles.iter().map(|p| p.user.to_string()).collect::<Vec<_>>())
            .bind(profiles.iter().map(|p| p.name.clone()).collect::<Vec<_>>())
            .bind(profiles.iter().map(|p| p.avatar_url.clone()).collect::<Vec<_>>())
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    /// The database's clock decides, so time passes by moving back all that it is compared with.
    pub async fn pass(&mut self, time: i64) {
        let shift = "with passed as (select $1::interval as time), \
             p as (update headcount.presence set last_seen = last_seen - time, last_active = last_active - time \
                 from passed), \
             m as (update headcount.memberships set leaving_at = leaving_at - time from passed \
                 where leaving_at is not null) \
             update headcount.sweep_state set leases_from = leases_from - time from passed";
        sqlx::query(shift).bind(seconds(time)).execute(&mut self.connection).await.unwrap();
    }

    /// The first sweep in one interval, or in four. Gives how many sessions expired and how many members are gone.
    pub async fn sweep(&mut self, after_outage: bool) -> (i32, i32) {
        let since = if after_outage { 4 * SWEEP_INTERVAL } else { SWEEP_INTERVAL };
        let before = "update headcount.sweep_state set last_sweep_at = clock_timestamp() - $1::interval";
        sqlx::query(before).bind(seconds(since)).execute(&mut self.connection).await.unwrap();
        let call = "select expired, departed from headcount.sweep($1, $2)";
        sqlx::query_as(call)
            .bind(seconds(SWEEP_INTERVAL))
            .bind(seconds(LEASE))
            .fetch_one(&mut self.connection)
            .await
            .unwrap()
    }

    /// In microseconds since 1970.
    pub async fn clock(&mut self) -> i64 {
        let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        sqlx::query_scalar(now).fetch_one(&mut self.connection).await.unwrap()
    }

    pub async fn picture(&mut self, versions: &BTreeMap<String, i64>) -> Picture {
        let picture = sqlx::query_scalar(PICTURE).bind(Json(versions)).fetch_one(&mut self.connection).await;
        let Json(picture) = picture.unwrap();
        picture
    }
}

fn single_call(op: Op) -> &'static str {
    match op {
        Op::Join => {
            "select outcome, epoch, version, created, member from headcount.join($1, $2, $3, p_seq => $4, \
                 p_status => $5, p_state => $6, p_invisible => $7, p_visible => $8, p_name => $9, \
                 p_avatar_url => $10)"
        }
        Op::Leave { .. } => {
            "select outcome, epoch, version, false as created, null::jsonb as member \
             from headcount.leave($1, $2, $3, p_seq => $4, p_grace => $5)"
        }
        Op::Update => {
            "select outcome, epoch, version, false as created, member \
             from headcount.update($1, $2, $3, p_seq => $4, p_status => $5, p_state => $6, p_invisible => $7)"
        }
        Op::Kick => {
            "select outcome, epoch, version, false as created, null::jsonb as member from headcount.kick($1, $2)"
        }
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

fn state(command: &Command) -> Option<Json<Value>> {
    command.state.map(|state| Json(json!({ "n": state })))
}

fn numbered(ord: usize, command: &Command) -> Value {
    let (op, grace) = match command.op {
        Op::Join => ("join", 0),
        Op::Leave { grace: false } => ("leave", 0),
        Op::Leave { grace: true } => ("leave", GRACE),
        Op::Update => ("update", 0),
        Op::Kick => ("kick", 0),
    };
    let mut numbered = json!({
        "ord": ord,
        "op": op,
        "room_id": command.room.to_string(),
        "user_id": command.user.to_string(),
        "seq": command.seq,
        "grace": format!("{grace} s"),
    });
    if command.op != Op::Kick {
        numbered["session_id"] = json!(command.session.uuid());
    }
    if matches!(command.op, Op::Join | Op::Update) {
        numbered["status"] = json!(command.status);
        numbered["invisible"] = json!(command.invisible);
        numbered["state"] = json!(command.state.map(|state| json!({ "n": state })));
    }
    if command.op == Op::Join {
        numbered["name"] = json!(command.profile.name);
        numbered["avatar_url"] = json!(command.profile.avatar_url);
        numbered["visible"] = json!(command.visible);
    }
    numbered
}
