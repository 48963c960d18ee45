//! A log that is written to becomes one that is kept by day: nothing is lost, and nobody is kept waiting for it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use headcount::store;
use sqlx::migrate::Migrator;
use sqlx::{Connection, Executor, PgConnection};

use crate::calls::{count, join, run};
use crate::support::law::assert_lawful;
use crate::support::{self, SERVICE_ROLE, TestDatabase};

/// A database as it was before the log was kept by day.
async fn before() -> TestDatabase {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, "drop schema headcount cascade").await;
    let migrations: Vec<_> = sqlx::migrate!().iter().filter(|one| one.version < 7).cloned().collect();
    let mut migrator = Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT };
    migrator.dangerous_set_table_name("headcount.migrations");
    migrator.create_schema("headcount");
    migrator.run(&mut connection).await.unwrap();
    store::grant(&database.options, SERVICE_ROLE).await.unwrap();
    database
}

const PARTITIONS: &str =
    "select string_agg(part::text || ' ' || is_day, ', ' order by is_day) from headcount.log_days()";

#[tokio::test]
async fn a_log_becomes_one_by_day_while_it_is_written_to() {
    let database = before().await;
    let mut connection = database.connect().await;
    for n in 1..=50 {
        join(&mut connection, "room", &format!("early-{n}"), n).await;
    }
    let old = "select count(*) from headcount.events where user_id like 'early-%'";
    let done = AtomicBool::new(false);
    let writing = async {
        let mut writer = database.connect().await;
        // As the service waits: who cannot write within this time is refused.
        run(&mut writer, "set lock_timeout = '250 ms'").await;
        let mut n = 100;
        while !done.load(Ordering::Relaxed) || n < 150 {
            n += 1;
            join(&mut writer, "room", &format!("user-{n}"), n).await;
        }
    };
    let migrating = async {
        store::migrate(&database.options).await.unwrap();
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(writing, migrating);
    assert_eq!(count(&mut connection, old).await, 50);
    assert_lawful(&mut connection).await;
    let wide = "select count(*) from headcount.events_before";
    assert!(count(&mut connection, wide).await >= 100, "it goes on being written to until its last day");
    // Without granting anything again:
    let mut service = PgConnection::connect_with(&database.service).await.unwrap();
    assert_eq!(count(&mut service, old).await, 50);
    let replayed =
        "select count(*) from headcount.tails(array['room'], array[headcount.epoch()], array[0], 5000)";
    assert!(count(&mut service, replayed).await >= 100);
    run(&mut service, "select headcount.turn_days(); select headcount.trim()").await;

    run(&mut connection, "select headcount.trim('0 s')").await;
    assert_eq!(count(&mut connection, "select count(*) from headcount.events").await, 0);
    run(&mut connection, "update headcount.log_state set before_until = now() - interval '25 h'").await;
    run(&mut service, "select headcount.turn_days()").await;
    assert_eq!(count(&mut connection, "select count(*) from headcount.log_days() where not is_day").await, 1);
}

#[tokio::test]
async fn an_empty_log_is_by_day_from_the_start() {
    let database = support::database().await;
    let parts: String =
        sqlx::query_scalar(PARTITIONS).fetch_one(&mut database.connect().await).await.unwrap();
    assert!(parts.starts_with("headcount.events_default false, ") && !parts.contains("before"), "{parts}");
    assert_eq!(parts.matches("true").count(), 5, "{parts}");
}

#[tokio::test]
async fn the_change_waits_for_a_long_transaction_without_keeping_others_waiting() {
    let database = before().await;
    let mut connection = database.connect().await;
    join(&mut connection, "room", "ann", 1).await;
    let mut reader = database.connect().await;
    let mut reading = reader.begin().await.unwrap();
    run(&mut reading, "select from headcount.events").await;
    run(&mut connection, "set lock_timeout = '250 ms'").await;
    let migrating = async { store::migrate(&database.options).await.unwrap() };
    let writing = async {
        let tried = "select count(*) from pg_stat_activity where datname = current_database() \
             and query like '-- no-transaction%' and wait_event = 'PgSleep'";
        let mut observer = database.connect().await;
        let mut written = 10;
        while count(&mut observer, tried).await == 0 {
            written += 1;
            join(&mut connection, "room", &format!("user-{written}"), written).await;
        }
        let plain =
            "select count(*) from pg_class where oid = 'headcount.events'::regclass and relkind = 'r'";
        assert_eq!(count(&mut observer, plain).await, 1, "it waits");
        reading.rollback().await.unwrap();
    };
    tokio::join!(migrating, writing);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_change_that_stopped_half_way_goes_on() {
    let database = before().await;
    let mut connection = database.connect().await;
    join(&mut connection, "room", "ann", 1).await;
    let sql = sqlx::migrate!().iter().find(|one| one.version == 7).unwrap().sql.clone();
    for stop in 1..sql.as_str().matches("\ncommit;").count() {
        let parts: Vec<&str> = sql.as_str().split("\ncommit;").take(stop).collect();
        let begun = format!("{}\ncommit;", parts.join("\ncommit;"));
        connection.execute(sqlx::AssertSqlSafe(begun)).await.unwrap();
        join(&mut connection, "room", "ann", 1).await;
    }
    store::migrate(&database.options).await.unwrap();
    assert_lawful(&mut connection).await;
    assert_eq!(count(&mut connection, "select count(*) from headcount.events_before").await, 1);
}
