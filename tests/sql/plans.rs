//! Plans are made when tables are small and kept until they are large: they must be right for both.

use serde_json::Value;
use sqlx::postgres::PgConnection;

use crate::calls::{apply, command, count, run, session, with};
use crate::support;

/// Twenty thousand members in ten thousand rooms, put there directly because it is quicker.
const MANY: &str = "insert into headcount.users (user_id, name) \
         select 'user-' || n, 'User' from generate_series(1, 20000) n; \
     insert into headcount.presence (session_id, user_id, lease) \
         select lpad(to_hex(n), 32, '0')::uuid, 'user-' || n, headcount.default_lease() from generate_series(1, 20000) n; \
     insert into headcount.rooms (room_id, epoch, version, member_count) \
         select 'room-' || n, headcount.epoch(), 2, 2 from generate_series(0, 9999) n; \
     insert into headcount.memberships (room_id, user_id, session_id, joined_at, changed_at) \
         select 'room-' || n % 10000, 'user-' || n, lpad(to_hex(n), 32, '0')::uuid, now(), now() \
         from generate_series(1, 20000) n; \
     insert into headcount.events (room_id, version, kind, user_id, member) \
         select 'room-' || n % 10000, (n - 1) / 10000 + 1, 'joined', 'user-' || n, '{}' \
         from generate_series(1, 20000) n; \
     insert into headcount.departures (session_id, room_id, user_id) \
         select gen_random_uuid(), 'room-' || n % 10000, 'user-' || n from generate_series(1, 20000) n";

/// Of a table, the rows read by scanning it, and through its indexes.
type Reads = (String, i64, i64);

/// Each in its own rooms and with its own users, so that none finds the other's work.
const CALLS: [&str; 8] =
    ["join", "leave", "update", "kick", "heartbeat", "refresh_idle", "sweep", "put_users"];

#[tokio::test]
async fn the_batch_functions_go_by_index_whatever_size_their_plans_were_made_for() {
    for members in [0, 1, 100] {
        let database = support::database().await;
        let mut connection = database.connect().await;
        // Plans of small tables, which this connection keeps: one page is quicker to scan than to look up.
        join(&mut connection, members, "early", 1_000_000).await;
        run(&mut connection, "analyze").await;
        for (name, first) in CALLS.into_iter().zip((2_000_000..).step_by(100)) {
            prepare(&mut connection, first - 100).await;
            call(&mut connection, name, "early", first).await;
        }
        run(&mut connection, MANY).await;
        let mut breaches = Vec::new();
        for (name, first) in CALLS.into_iter().zip((1000..).step_by(1000)) {
            prepare(&mut connection, first).await;
            call(&mut connection, name, "room", first).await;
            // For a hundred sessions: twenty looks at a row for each are plenty.
            let many = |(_, scanned, fetched): &Reads| *scanned > 10 || *fetched > 2000;
            let reads = reads(&mut connection).await;
            assert!(reads.iter().any(|(_, _, fetched)| *fetched >= 100), "{name} does something");
            breaches.extend(reads.into_iter().filter(many).map(|reads| (name, reads)));
        }
        assert!(breaches.is_empty(), "with plans made for {members} members: {breaches:?}");
    }
}

#[tokio::test]
async fn a_replay_goes_by_index_on_a_day_that_was_empty_when_its_plan_was_made() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, "analyze").await; // now they are known to be empty
    let replay = "select count(*) from headcount.tails( \
         array(select 'room-' || n from generate_series(0, 99) n), array_fill(headcount.epoch(), array[100]), \
         array_fill(1::bigint, array[100]), 5000) where version is not null";
    count(&mut connection, replay).await;
    run(&mut connection, MANY).await;
    prepare(&mut connection, 0).await;
    assert_eq!(count(&mut connection, replay).await, 100);
    let reads = reads(&mut connection).await;
    let fetched: i64 = reads.iter().map(|(_, _, fetched)| fetched).sum();
    assert!(reads.iter().all(|(_, scanned, _)| *scanned < 10) && fetched < 1000, "{reads:?}");
}

/// For the hundred users from `first` on.
async fn call(connection: &mut PgConnection, name: &str, rooms: &str, first: u128) {
    let numbers = first..first + 100;
    let users: Vec<String> = numbers.clone().map(|n| format!("user-{n}")).collect();
    let sessions: Vec<_> = numbers.clone().map(session).collect();
    match name {
        "heartbeat" => {
            let beat = "select from headcount.heartbeat($1, $2, array_fill(true, array[100]), \
                 array_fill(true, array[100]), array_fill(null::bigint, array[100]))";
            sqlx::query(beat).bind(sessions).bind(users).execute(connection).await.unwrap();
        }
        "refresh_idle" => {
            let refresh = "select headcount.refresh_idle($1, '0 s')";
            sqlx::query(refresh).bind(sessions).execute(connection).await.unwrap();
        }
        "sweep" => run(connection, "select headcount.sweep()").await,
        "put_users" => {
            let put = "select headcount.put_users(array( \
                 select (id, 'Another', null, 'coarse')::headcount.profile from unnest($1::text[]) id))";
            sqlx::query(put).bind(users).execute(connection).await.unwrap();
        }
        "update" => {
            let status = |n| with(member("update", rooms, n), "status", "dnd");
            apply(connection, numbers.map(status).collect(), true).await.unwrap();
        }
        op => {
            apply(connection, numbers.map(|n| member(op, rooms, n)).collect(), true).await.unwrap();
        }
    }
}

async fn join(connection: &mut PgConnection, members: u128, rooms: &str, first: u128) {
    let joins = (first..first + members).map(|n| member("join", rooms, n));
    apply(connection, joins.collect(), true).await.unwrap();
}

fn member(op: &str, rooms: &str, n: u128) -> Value {
    command(op, &format!("{rooms}-{}", n % 10000), &format!("user-{n}"), n)
}

/// The leases of the hundred sessions from `first` on run out, a sweep is due, and the counting starts.
async fn prepare(connection: &mut PgConnection, first: u128) {
    let sessions: Vec<_> = (first..first + 100).map(session).collect();
    let age =
        "update headcount.presence set last_seen = last_seen - interval '46 s' where session_id = any ($1)";
    sqlx::query(age).bind(sessions).execute(&mut *connection).await.unwrap();
    let due = "update headcount.sweep_state set last_sweep_at = clock_timestamp() - interval '1 s'";
    run(connection, due).await;
    run(connection, "select pg_stat_force_next_flush()").await;
    run(connection, "select pg_stat_reset()").await;
}

async fn reads(connection: &mut PgConnection) -> Vec<Reads> {
    run(connection, "select pg_stat_force_next_flush()").await;
    let reads = "select relname::text, seq_tup_read, coalesce(idx_tup_fetch, 0) from pg_stat_user_tables \
         where relname in ('presence', 'memberships', 'users', 'rooms', 'departures') or relname like 'events_%'";
    sqlx::query_as(reads).fetch_all(connection).await.unwrap()
}
