//! The SQL functions as the tests call them.

use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::types::Json;
use sqlx::{Executor, FromRow};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::TestDatabase;

/// What a command was answered.
#[derive(FromRow, Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub outcome: String,
    pub epoch: String,
    pub version: i64,
}

/// What a sweep did.
#[derive(FromRow, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    pub expired: i32,
    pub departed: i32,
    pub more: bool,
    pub recovering: bool,
}

pub fn session(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A command of a batch; the caller adds what more it needs.
pub fn command(op: &str, room: &str, user: &str, of: u128) -> Value {
    json!({ "op": op, "room_id": room, "user_id": user, "session_id": session(of) })
}

pub fn with(mut command: Value, key: &str, value: impl Into<Value>) -> Value {
    command[key] = value.into();
    command
}

/// Applies a batch in which commands are numbered by their place. Gives the outcomes in that order.
pub async fn apply(
    connection: &mut PgConnection,
    commands: Vec<Value>,
    wait: bool,
) -> sqlx::Result<Vec<String>> {
    let numbered: Vec<Value> =
        commands.into_iter().enumerate().map(|(ord, command)| with(command, "ord", ord)).collect();
    sqlx::query_scalar("select outcome from headcount.apply($1, $2) order by ord")
        .bind(Json(numbered))
        .bind(wait)
        .fetch_all(connection)
        .await
}

pub async fn join(connection: &mut PgConnection, room: &str, user: &str, of: u128) -> Answer {
    sqlx::query_as("select outcome, epoch, version from headcount.join($1, $2, $3)")
        .bind(room)
        .bind(user)
        .bind(session(of))
        .fetch_one(connection)
        .await
        .unwrap()
}

pub async fn leave(connection: &mut PgConnection, room: &str, user: &str, of: u128) -> Answer {
    sqlx::query_as("select outcome, epoch, version from headcount.leave($1, $2, $3)")
        .bind(room)
        .bind(user)
        .bind(session(of))
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Gives whether the session was found.
pub async fn heartbeat(connection: &mut PgConnection, user: &str, of: u128) -> bool {
    let found = sqlx::query(
        "select from headcount.heartbeat(array[$1::uuid], array[$2], array[null::boolean], array[true], \
             array[null::bigint])",
    );
    let found = found.bind(session(of)).bind(user).fetch_optional(connection).await.unwrap();
    found.is_some()
}

pub async fn sweep(connection: &mut PgConnection) -> Swept {
    sqlx::query_as("select * from headcount.sweep()").fetch_one(connection).await.unwrap()
}

/// So much time passes for the sessions of a user, while sweeps go on.
pub async fn pass(connection: &mut PgConnection, user: &str, seconds: i32) {
    let shift = "with s as (update headcount.sweep_state set last_sweep_at = clock_timestamp() - interval '1 s') \
         update headcount.presence set last_seen = last_seen - make_interval(secs => $2) where user_id = $1";
    sqlx::query(shift).bind(user).bind(f64::from(seconds)).execute(connection).await.unwrap();
}

pub async fn run(connection: &mut PgConnection, statements: &'static str) {
    connection.execute(statements).await.unwrap();
}

/// The events of a room, as `kind user` in order.
pub async fn log(connection: &mut PgConnection, room: &str) -> Vec<String> {
    let events = "select concat_ws(' ', kind, user_id, reason) from headcount.events \
         where room_id = $1 order by version";
    sqlx::query_scalar(events).bind(room).fetch_all(connection).await.unwrap()
}

pub async fn count(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(connection).await.unwrap()
}

pub async fn pid(connection: &mut PgConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await.unwrap()
}

/// Whether the task's backend comes to wait for a lock; it does not when the task is done first. Asks again and
/// again: each question takes its time.
pub async fn blocked<T>(observer: &mut PgConnection, pid: i32, task: &JoinHandle<T>) -> bool {
    let waits = "select exists (select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits).bind(pid).fetch_one(&mut *observer).await.unwrap() {
        if task.is_finished() {
            return false;
        }
    }
    true
}

pub async fn pool(database: &TestDatabase, connections: u32) -> PgPool {
    PgPoolOptions::new().max_connections(connections).connect_with(database.options.clone()).await.unwrap()
}
