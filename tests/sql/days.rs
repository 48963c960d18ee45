//! The log by day: nobody misses a partition, none is kept too long, and keeping them stops nobody.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use crate::calls::{count, join, leave, log, run};
use crate::support::law::assert_lawful;
use crate::support::{self, TestDatabase};

/// As the service does it. Gives what was done, until there is nothing left to do.
async fn turn(database: &TestDatabase) -> Vec<String> {
    let mut service = PgConnection::connect_with(&database.service).await.unwrap();
    let mut done = Vec::new();
    while let Some(one) = turn_once(&mut service).await {
        done.push(one);
    }
    done
}

async fn turn_once(connection: &mut PgConnection) -> Option<String> {
    sqlx::query_scalar("select headcount.turn_days()").fetch_one(connection).await.unwrap()
}

/// The partition of a day, counted from today.
async fn name(connection: &mut PgConnection, day: i32) -> String {
    let name =
        "select to_char(clock_timestamp() at time zone 'UTC' + $1 * interval '1 day', '\"events_\"YYYYMMDD')";
    sqlx::query_scalar(name).bind(day).fetch_one(connection).await.unwrap()
}

/// If it is not there: midnight may have passed since the database was made, and yesterday was today then.
async fn make(connection: &mut PgConnection, day: i32) {
    if partitions(connection).await.contains(&name(connection, day).await) {
        return;
    }
    let make = "select headcount.make_day( \
         (date_trunc('day', clock_timestamp() at time zone 'UTC') + $1 * interval '1 day') at time zone 'UTC')";
    sqlx::query(make).bind(day).execute(connection).await.unwrap();
}

/// Which of the coming days are made: not tomorrow when it begins within the hour.
async fn coming(connection: &mut PgConnection) -> Vec<i32> {
    let coming = "select array( \
         select day from generate_series(1, 3) day \
         where date_trunc('day', clock_timestamp() at time zone 'UTC') + day * interval '1 day' \
             >= clock_timestamp() at time zone 'UTC' + interval '1 hour')";
    sqlx::query_scalar(coming).fetch_one(connection).await.unwrap()
}

/// If it is there: midnight may have passed since the database was made.
async fn drop_day(connection: &mut PgConnection, day: i32) {
    let name = name(connection, day).await;
    connection.execute(sqlx::AssertSqlSafe(format!("drop table if exists headcount.{name}"))).await.unwrap();
}

/// An event of the room `old` at noon of a day.
async fn noon(connection: &mut PgConnection, version: i64, day: i32) {
    let insert = "insert into headcount.events (room_id, version, kind, user_id, member, at) \
         select 'old', $1, 'joined', 'user-' || $1, '{}', \
             (date_trunc('day', clock_timestamp() at time zone 'UTC') + $2 * interval '1 day' + interval '12 h') \
             at time zone 'UTC'";
    sqlx::query(insert).bind(version).bind(day).execute(connection).await.unwrap();
}

async fn partitions(connection: &mut PgConnection) -> Vec<String> {
    let names = "select part::text from headcount.log_days() order by 1";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(connection).await.unwrap();
    names.into_iter().map(|name| name.trim_start_matches("headcount.").to_owned()).collect()
}

/// Counted from today.
async fn complete_from_day(connection: &mut PgConnection) -> i64 {
    let day = "select ((complete_from at time zone 'UTC')::date - (clock_timestamp() at time zone 'UTC')::date)::bigint \
         from headcount.log_state";
    count(connection, day).await
}

#[tokio::test]
async fn the_coming_days_are_made_by_the_role_of_the_service() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for day in 1..=3 {
        drop_day(&mut connection, day).await;
    }
    let coming = coming(&mut connection).await;
    assert_eq!(turn(&database).await.len(), coming.len());
    for day in coming {
        let name = name(&mut connection, day).await;
        assert!(partitions(&mut connection).await.contains(&name), "{name}");
    }
    let owned = "select count(*) from headcount.log_days() d join pg_class c on c.oid = d.part \
         where c.relowner <> (select relowner from pg_class where oid = 'headcount.events'::regclass) \
            or not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)";
    assert_eq!(count(&mut connection, owned).await, 0);
    assert!(turn(&database).await.is_empty(), "nothing is due any more");
}

#[tokio::test]
async fn what_has_no_partition_is_written_all_the_same_and_found() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for day in -1..=3 {
        drop_day(&mut connection, day).await;
    }
    join(&mut connection, "room", "ann", 1).await;
    noon(&mut connection, 1, 2).await; // as if the clock had been two days ahead
    let default = "select count(*) from headcount.events_default";
    assert_eq!(count(&mut connection, default).await, 2);

    turn(&database).await;
    let made = partitions(&mut connection).await;
    let coming = coming(&mut connection).await;
    for day in 0..=3 {
        let there = day != 2 && coming.contains(&day);
        assert_eq!(made.contains(&name(&mut connection, day).await), there, "day {day} of {made:?}");
    }
    leave(&mut connection, "room", "ann", 1).await;
    assert_eq!(log(&mut connection, "room").await, ["joined ann", "left ann left"]);
    assert_eq!(count(&mut connection, default).await, 3);
    run(&mut connection, "delete from headcount.events where room_id = 'old'").await;
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_large_default_partition_is_left_alone() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for day in 0..=3 {
        drop_day(&mut connection, day).await;
    }
    run(
        &mut connection,
        "insert into headcount.events (room_id, version, kind, user_id, member) \
         select 'large', n, 'updated', 'ann', jsonb_build_object('name', repeat('n', 200)) \
         from generate_series(1, 70000) n",
    )
    .await;
    assert!(turn(&database).await.is_empty(), "to attach a day is to read all of it while others wait");
    run(&mut connection, "truncate headcount.events_default").await;
    let coming = coming(&mut connection).await;
    assert_eq!(turn(&database).await.len(), coming.len());
}

const RECENT: &str = "select array_agg(version) \
     from headcount.tails(array['old'], array[headcount.epoch()], array[$1], 5000, true)";

#[tokio::test]
async fn a_replay_goes_across_midnight() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for (version, day) in [(1, -1), (2, -1), (3, 0), (4, 1)] {
        noon(&mut connection, version, day).await;
    }
    run(
        &mut connection,
        "insert into headcount.rooms (room_id, epoch, version, member_count) select 'old', headcount.epoch(), 4, 4",
    )
    .await;
    let mut service = PgConnection::connect_with(&database.service).await.unwrap();
    let replay = "select array_agg(version) from headcount.tails(array['old'], array[headcount.epoch()], array[$1], 5000)";
    for (after, rest) in [(0, vec![1, 2, 3, 4]), (1, vec![2, 3, 4]), (3, vec![4])] {
        let found: Vec<i64> =
            sqlx::query_scalar(replay).bind(i64::from(after)).fetch_one(&mut service).await.unwrap();
        assert_eq!(found, rest, "after {after}");
        let recent: Vec<i64> =
            sqlx::query_scalar(RECENT).bind(i64::from(after)).fetch_one(&mut service).await.unwrap();
        assert_eq!(recent, rest, "from yesterday on, after {after}");
    }
    run(&mut connection, "update headcount.events set at = at - interval '3 days' where version = 1").await;
    for (after, found) in [(0, vec![2, 3, 4]), (1, vec![2, 3, 4])] {
        let recent: Vec<i64> =
            sqlx::query_scalar(RECENT).bind(i64::from(after)).fetch_one(&mut service).await.unwrap();
        assert_eq!(recent, found, "from yesterday on, after {after}");
    }
}

#[tokio::test]
async fn days_that_are_too_old_are_dropped_and_no_others() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, "update headcount.log_state set complete_from = '2026-01-01'").await;
    for day in [-3, -2] {
        make(&mut connection, day).await;
    }
    for (version, day) in [(1, -3), (2, -2), (3, -1), (4, 0)] {
        noon(&mut connection, version, day).await;
    }
    let kept = async |connection: &mut PgConnection| log(connection, "old").await.len();
    let dropped = turn(&database).await;
    assert_eq!(dropped.len(), 2, "{dropped:?}: of yesterday there is less than 24 h ago");
    assert_eq!(kept(&mut connection).await, 2);
    assert_eq!(complete_from_day(&mut connection).await, -1);
    run(&mut connection, "select headcount.turn_days('0 s')").await;
    assert_eq!(kept(&mut connection).await, 1, "yesterday is over");
    assert_eq!(complete_from_day(&mut connection).await, 0);
}

#[tokio::test]
async fn a_day_that_somebody_reads_is_dropped_later_and_nobody_waits_for_that() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    make(&mut connection, -3).await;
    let mut reader = database.connect().await;
    let mut reading = reader.begin().await.unwrap();
    run(&mut reading, "select count(*) from headcount.events").await;

    let mut service = PgConnection::connect_with(&database.service).await.unwrap();
    let turning = tokio::spawn(async move { (turn_once(&mut service).await, service) });
    // As the service waits: who cannot write within this time is refused.
    run(&mut connection, "set lock_timeout = '250 ms'").await;
    let mut written = 0;
    while written < 20 || !turning.is_finished() {
        written += 1;
        join(&mut connection, "room", &format!("user-{written}"), written).await;
    }
    let (turned, mut service) = turning.await.unwrap();
    assert_eq!(turned, None);
    reading.rollback().await.unwrap();
    assert_eq!(turn_once(&mut service).await, None, "not again so soon");
    run(&mut connection, "update headcount.log_state set tried_at = tried_at - interval '1 min'").await;
    let name = name(&mut connection, -3).await;
    assert_eq!(turn_once(&mut service).await, Some(format!("dropped headcount.{name}")));
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn rows_are_trimmed_one_by_one_only_where_a_day_is_too_coarse() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, "update headcount.log_state set complete_from = '2026-01-01'").await;
    make(&mut connection, -3).await;
    for (version, day) in [(1, -5), (2, -3), (3, -1)] {
        noon(&mut connection, version, day).await;
    }
    join(&mut connection, "room", "ann", 1).await; // in each partition the first row, at the same place
    run(&mut connection, "select headcount.trim()").await;
    assert_eq!(
        log(&mut connection, "old").await.len(),
        2,
        "the default partition has no day that could be dropped"
    );
    run(&mut connection, "select headcount.trim('1 h')").await;
    assert_eq!(log(&mut connection, "old").await.len(), 0);
    assert_eq!(log(&mut connection, "room").await, ["joined ann"]);
    let since = "select count(*) from headcount.log_state \
         where complete_from between clock_timestamp() - interval '61 min' and clock_timestamp() - interval '59 min'";
    assert_eq!(count(&mut connection, since).await, 1);
}

#[tokio::test]
async fn an_empty_log_is_by_day_from_the_start() {
    let database = support::database().await;
    let parts =
        "select string_agg(part::text || ' ' || is_day, ', ' order by is_day) from headcount.log_days()";
    let parts: String = sqlx::query_scalar(parts).fetch_one(&mut database.connect().await).await.unwrap();
    assert!(parts.starts_with("headcount.events_default false, "), "{parts}");
    assert_eq!(parts.matches("true").count(), 5, "{parts}");
}
