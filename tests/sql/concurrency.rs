//! Many connections at once, on few rooms, users and sessions.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::calls::{apply, blocked, command, count, join, pid, pool, run, session, with};
use crate::support;
use crate::support::law::assert_lawful;

const CONNECTIONS: u32 = 12;

#[tokio::test]
async fn concurrent_joins_of_one_room_have_contiguous_versions() {
    let database = support::database().await;
    let pool = pool(&database, CONNECTIONS).await;
    let joins = (0..240).map(|n| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut connection = pool.acquire().await.unwrap();
            join(&mut connection, "room", &format!("user-{n}"), n).await.version
        })
    });
    let mut versions = Vec::new();
    for join in joins.collect::<Vec<_>>() {
        versions.push(join.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=240).collect::<Vec<i64>>(), "each is answered with its own");
    let mut connection = pool.acquire().await.unwrap();
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn of_users_who_use_one_session_at_once_one_has_it() {
    let database = support::database().await;
    let pool = pool(&database, CONNECTIONS).await;
    let joins = (0..CONNECTIONS).map(|n| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut connection = pool.acquire().await.unwrap();
            join(&mut connection, &format!("room-{}", n % 3), &format!("user-{n}"), 1).await.outcome
        })
    });
    let mut outcomes = Vec::new();
    for join in joins.collect::<Vec<_>>() {
        outcomes.push(join.await.unwrap());
    }
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "ok").count(), 1, "{outcomes:?}");
    let mut connection = pool.acquire().await.unwrap();
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn concurrent_batches_sweeps_profile_changes_and_kicks_never_deadlock() {
    let database = support::database().await;
    let pool = pool(&database, CONNECTIONS).await;
    let workers: Vec<_> =
        (0..CONNECTIONS).map(|seed| tokio::spawn(work(pool.clone(), u64::from(seed)))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let mut connection = pool.acquire().await.unwrap();
    assert_lawful(&mut connection).await;
    assert_ne!(count(&mut connection, "select count(*) from headcount.events").await, 0);

    // Whoever is left can go.
    let after_all = "update headcount.presence set last_seen = '-infinity'; \
         update headcount.sweep_state set last_sweep_at = clock_timestamp(), recovering = false, \
             leases_from = '-infinity'";
    run(&mut connection, after_all).await;
    run(&mut connection, "select headcount.sweep()").await;
    assert_eq!(count(&mut connection, "select sum(member_count) from headcount.rooms").await, 0);
    assert_lawful(&mut connection).await;
}

/// Whoever logs in the room `new`, having remembered and changed, waits for key 1.
const STOP_AT_THE_LOG: &str = "create function stop() returns trigger language plpgsql as $$ begin \
         perform pg_advisory_xact_lock(1); return new; end $$; \
     create trigger stop before insert on headcount.events for each row when (new.room_id = 'new') \
         execute function stop()";

#[tokio::test]
async fn a_session_does_not_turn_idle_while_it_joins_another_room() {
    let database = support::database().await;
    let (mut joiner, mut flipper) = (database.connect().await, database.connect().await);
    let mut observer = database.connect().await;
    join(&mut joiner, "old", "ann", 1).await;
    run(&mut joiner, "update headcount.presence set last_active = last_active - interval '1 h'").await;
    run(&mut joiner, STOP_AT_THE_LOG).await;
    run(&mut observer, "select pg_advisory_lock(1)").await;

    let joiner_pid = pid(&mut joiner).await;
    let joining = tokio::spawn(async move { join(&mut joiner, "new", "ann", 1).await });
    assert!(blocked(&mut observer, joiner_pid, &joining).await, "it has stopped at the log");
    let flipper_pid = pid(&mut flipper).await;
    let flipping = tokio::spawn(async move {
        let idle = "select headcount.refresh_idle(array['00000000-0000-0000-0000-000000000001'::uuid])";
        run(&mut flipper, idle).await;
    });
    blocked(&mut observer, flipper_pid, &flipping).await;
    run(&mut observer, "select pg_advisory_unlock(1)").await;
    joining.await.unwrap();
    flipping.await.unwrap();
    assert_lawful(&mut observer).await;
}

async fn work(pool: PgPool, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut connection = pool.acquire().await.unwrap();
    for _ in 0..60 {
        if let Err(error) = operation(&mut connection, &mut random).await {
            panic!("{error:?}");
        }
    }
}

async fn operation(connection: &mut PgConnection, random: &mut StdRng) -> sqlx::Result<()> {
    match random.random_range(0..20) {
        0..9 => {
            let size = random.random_range(1..30);
            let batch = (0..size).map(|_| random_command(random)).collect();
            apply(connection, batch, random.random()).await.map(drop)
        }
        9..12 => sqlx::query("select headcount.sweep('1 s', '0 s')").execute(connection).await.map(drop),
        12..14 => {
            let users: Vec<String> = (0..3).map(|_| user(random)).collect();
            let names: Vec<String> = (0..3).map(|_| random.random_range(0..100).to_string()).collect();
            let put = "select headcount.put_users(array(select (id, name, null, null)::headcount.profile \
                 from unnest($1::text[], $2::text[]) as given (id, name)))";
            sqlx::query(put).bind(users).bind(names).execute(connection).await.map(drop)
        }
        14..16 => {
            let kick = sqlx::query("select headcount.kick($1, $2)").bind(room(random)).bind(user(random));
            kick.execute(connection).await.map(drop)
        }
        16..18 => beat(connection, random).await,
        18 if random.random() => sqlx::query("select headcount.erase_user($1)")
            .bind(user(random))
            .execute(connection)
            .await
            .map(drop),
        _ if random.random() => sqlx::query(CLOCK_GOES_BACK).execute(connection).await.map(drop),
        _ => {
            sqlx::query(DEPARTURES_AGE).execute(&mut *connection).await?;
            sqlx::query("select headcount.trim()").execute(connection).await.map(drop)
        }
    }
}

/// Half of the departures are old enough to be forgotten.
const DEPARTURES_AGE: &str = "update headcount.departures set left_at = now() - interval '2 days'
     where ctid in (select ctid from headcount.departures where random() < 0.5 for update skip locked)";

/// What a clock that went back an hour leaves behind: times that have not come yet.
const CLOCK_GOES_BACK: &str = "with presence as (
         update headcount.presence set last_seen = clock_timestamp() + interval '1 h'
         where session_id in (select session_id from headcount.presence order by session_id for update skip locked)
     ), memberships as (
         update headcount.memberships set leaving_at = clock_timestamp() + interval '1 h'
         where leaving_at is not null
           and session_id in (select session_id from headcount.presence for update skip locked)
     )
     update headcount.sweep_state set last_sweep_at = clock_timestamp() + interval '1 h'";

/// Idle at once and active at once, so that idleness is always due for a change.
async fn beat(connection: &mut PgConnection, random: &mut StdRng) -> sqlx::Result<()> {
    let sessions: Vec<Uuid> = (0..SESSIONS).map(session).collect();
    let active: Vec<bool> = sessions.iter().map(|_| random.random()).collect();
    let call = "select session_id from headcount.heartbeat($1, array_fill(null::text, array[cardinality($1)]), \
             array_fill(null::boolean, array[cardinality($1)]), $2, \
             array_fill(null::bigint, array[cardinality($1)]), p_idle_after => '0 s') \
         where idle_due";
    let due: Vec<Uuid> =
        sqlx::query_scalar(call).bind(sessions).bind(active).fetch_all(&mut *connection).await?;
    let refresh = sqlx::query("select headcount.refresh_idle($1, '0 s')").bind(due);
    refresh.execute(connection).await.map(drop)
}

const SESSIONS: u128 = 24;

fn room(random: &mut StdRng) -> String {
    format!("room-{}", random.random_range(0..6))
}

fn user(random: &mut StdRng) -> String {
    format!("user-{}", random.random_range(0..8))
}

fn random_command(random: &mut StdRng) -> Value {
    let op = *["join", "join", "join", "leave", "leave", "update", "kick"].choose(random).unwrap();
    let number = random.random_range(0..SESSIONS);
    let user = if random.random_ratio(1, 20) { user(random) } else { format!("user-{}", number % 8) };
    let command =
        with(command(op, &room(random), &user, number), "state", json!({ "n": random.random_range(0..9) }));
    let command = if random.random_ratio(1, 10) { with(command, "name", user) } else { command };
    let command = if op == "leave" && random.random() { with(command, "grace", "1 ms") } else { command };
    if random.random() { with(command, "lease", "0 s") } else { command }
}
