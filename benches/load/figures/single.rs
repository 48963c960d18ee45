//! What headcount's batches are compared with: one transaction for each join, on 32 connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::stage::Database;

const CONNECTIONS: u64 = 32;

/// What anybody would write: a version, a membership, an event, a notification; one statement, one commit.
pub const NOTIFYING: &str = "with moved as ( \
         insert into single.rooms values ($1, 1) \
         on conflict (room_id) do update set version = rooms.version + 1 returning version \
     ), present as ( \
         insert into single.memberships values ($1, $2, $3, now()) \
     ), logged as ( \
         insert into single.events select $1, moved.version, 'joined', $2, now() from moved \
     ) \
     select pg_notify('single', $1 || ':' || moved.version) from moved";

/// The same rules as the service's, one call a transaction.
pub const FUNCTION: &str = "select headcount.join($1, $2, $3)";

/// The tables of the plain form.
pub async fn prepare(database: &Database) {
    database
        .execute(
            "create schema single;
             create table single.rooms (room_id text primary key, version bigint not null) with (fillfactor = 50);
             create table single.memberships (room_id text, user_id text, session_id uuid, joined_at timestamptz,
                 primary key (room_id, user_id, session_id));
             create table single.events (room_id text, version bigint, kind text, user_id text, at timestamptz,
                 primary key (room_id, version));",
        )
        .await;
}

/// Joins a second over a thousand rooms.
pub async fn rate(database: &Database, statement: &'static str, run: Duration, round: usize) -> f64 {
    let connections = u32::try_from(CONNECTIONS).expect("32 is small");
    let pool = PgPoolOptions::new().max_connections(connections).connect_with(database.options.clone()).await;
    let pool = pool.expect("Postgres takes connections");
    let done = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    let begin = Instant::now();
    for caller in 0..CONNECTIONS {
        let (pool, done) = (pool.clone(), done.clone());
        callers.spawn(async move {
            let mut connection = pool.acquire().await.expect("there is one for each");
            for count in 0_u64.. {
                if begin.elapsed() > run {
                    return;
                }
                let room = format!("single{}", (caller * 7919 + count) % 1000);
                sqlx::query(statement)
                    .bind(room)
                    .bind(format!("single{round}-{caller}-{count}"))
                    .bind(Uuid::new_v4())
                    .execute(&mut *connection)
                    .await
                    .expect("Postgres answers");
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while callers.join_next().await.is_some() {}
    let rate = done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    pool.close().await;
    rate
}
