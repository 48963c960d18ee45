//! Plans are made when tables are small and kept until they are large: they must be right for both.

use sqlx::postgres::PgConnection;

use crate::calls::{apply, command, run, session, with};
use crate::support;

/// A hundred thousand members in a thousand rooms, put there directly because it is quicker.
const MANY: &str = "insert into headcount.users (user_id, name) \
         select 'user-' || n, 'User' from generate_series(1, 100000) n; \
     insert into headcount.presence (session_id, user_id) \
         select lpad(to_hex(n), 32, '0')::uuid, 'user-' || n from generate_series(1, 100000) n; \
     insert into headcount.rooms (room_id, epoch, version, member_count) \
         select 'room-' || n, headcount.epoch(), 100, 100 from generate_series(0, 999) n; \
     insert into headcount.memberships (room_id, user_id, session_id, joined_at, changed_at) \
         select 'room-' || n % 1000, 'user-' || n, lpad(to_hex(n), 32, '0')::uuid, now(), now() \
         from generate_series(1, 100000) n; \
     insert into headcount.events (room_id, version, kind, user_id, member) \
         select 'room-' || n % 1000, (n - 1) / 1000 + 1, 'joined', 'user-' || n, '{}' \
         from generate_series(1, 100000) n; \
     insert into headcount.departures (session_id, room_id, user_id) \
         select gen_random_uuid(), 'room-' || n % 1000, 'user-' || n from generate_series(1, 100000) n";

/// Of a table, the rows read by scanning it, and through its indexes.
type Reads = (String, i64, i64);

/// Each in its own rooms and with its own users, so that none finds the other's work.
const CALLS: [&str; 7] = ["join", "leave", "update", "heartbeat", "refresh_idle", "sweep", "put_users"];

#[tokio::test]
async fn the_batch_functions_go_by_index() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    // Plans of the empty tables, which this connection keeps.
    for round in 0..8 {
        for name in CALLS {
            age(&mut connection, 1_000_000 + round * 100 - 100).await;
            call(&mut connection, name, "early", 1_000_000 + round * 100).await;
        }
    }
    run(&mut connection, MANY).await;
    for (n, name) in CALLS.into_iter().enumerate() {
        if name == "sweep" {
            age(&mut connection, 1000 * (n as u128 + 1)).await;
        }
        run(&mut connection, "select pg_stat_force_next_flush()").await;
        run(&mut connection, "select pg_stat_reset()").await;
        call(&mut connection, name, "room", 1000 * (n as u128 + 1)).await;
        for (table, scanned, fetched) in reads(&mut connection).await {
            assert_eq!(scanned, 0, "rows of {table} that {name} scanned");
            assert!(fetched <= 2000, "{name} fetched {fetched} rows of {table} for 100 sessions");
        }
    }
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
                 select (id, 'Another', null)::headcount.profile from unnest($1::text[]) id))";
            sqlx::query(put).bind(users).execute(connection).await.unwrap();
        }
        op => {
            let status = |command| if op == "update" { with(command, "status", "dnd") } else { command };
            let batch = numbers
                .map(|n| status(command(op, &format!("{rooms}-{}", n % 1000), &format!("user-{n}"), n)));
            apply(connection, batch.collect(), true).await.unwrap();
        }
    }
}

/// The leases of the hundred sessions from `first` on run out.
async fn age(connection: &mut PgConnection, first: u128) {
    let sessions: Vec<_> = (first..first + 100).map(session).collect();
    let age =
        "update headcount.presence set last_seen = last_seen - interval '46 s' where session_id = any ($1)";
    sqlx::query(age).bind(sessions).execute(connection).await.unwrap();
}

async fn reads(connection: &mut PgConnection) -> Vec<Reads> {
    run(connection, "select pg_stat_force_next_flush()").await;
    let reads = "select relname::text, seq_tup_read, coalesce(idx_tup_fetch, 0) from pg_stat_user_tables \
         where relname in ('presence', 'memberships', 'users', 'rooms', 'events', 'departures')";
    sqlx::query_as(reads).fetch_all(connection).await.unwrap()
}
