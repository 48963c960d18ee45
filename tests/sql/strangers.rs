//! A role without any grant, which may connect: it hears no names, and holds nothing up.

use std::collections::BTreeSet;

use sqlx::postgres::PgListener;
use sqlx::{Connection, Executor, PgConnection};

use crate::calls::{count, join, run};
use crate::support::{self, TestDatabase};

/// A stranger of a database of their own, so that tests can run at once.
async fn stranger(database: &TestDatabase) -> PgConnection {
    let mut connection = database.connect().await;
    let create = "do $$ begin create role headcount_stranger login password 'stranger'; \
         exception when duplicate_object or unique_violation then null; end $$";
    run(&mut connection, create).await;
    let options = database.options.clone().username("headcount_stranger").password("stranger");
    PgConnection::connect_with(&options).await.unwrap()
}

#[tokio::test]
async fn no_advisory_lock_of_a_stranger_stops_webhooks_or_a_migration() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(
        &mut connection,
        "select headcount.webhook_put('crm', 'https://a.example/', '{member.joined}', '{*}', '0', true, null, 's', 20)",
    )
    .await;
    join(&mut connection, "lobby", "ann", 1).await;
    let mut stranger = stranger(&database).await;
    let keys = "select hashtextextended('headcount.webhook_outbox', 0) \
         union select hashtextextended('headcount.migrations', 0) union select x'68656164636f756e'::bigint";
    let keys: Vec<i64> = sqlx::query_scalar(keys).fetch_all(&mut stranger).await.unwrap();
    for key in keys {
        sqlx::query("select pg_advisory_lock($1)").bind(key).execute(&mut stranger).await.unwrap();
    }
    // The one that sqlx takes for the name of the database.
    let sqlx_key: i64 = 0x3d32_ad9e * i64::from(crc32(&database.options));
    sqlx::query("select pg_advisory_lock($1)").bind(sqlx_key).execute(&mut stranger).await.unwrap();

    let routed = "select more::int::bigint + cardinality(claimed) from headcount.webhook_tick(gen_random_uuid(), 'test')";
    assert_eq!(count(&mut connection, routed).await, 1, "claimed, and nothing is left");
    run(&mut connection, "set lock_timeout = '2 s'; select headcount.webhook_delete('crm')").await;
    run(&mut connection, "update headcount.rules set checksum = '', revision = 0").await;
    headcount::store::migrate(&database.options).await.unwrap();
    run(&mut connection, "drop schema headcount cascade").await;
    headcount::store::migrate(&database.options).await.unwrap();
    for lock in [
        "do $$ begin lock table headcount.migrations in share update exclusive mode; end $$",
        "select from headcount.webhook_router for update",
    ] {
        let error = stranger.execute(lock).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{lock}");
    }
}

/// CRC-32 of a database's name, as sqlx has it in the key of its lock.
fn crc32(options: &sqlx::postgres::PgConnectOptions) -> u32 {
    let name = options.get_database().unwrap();
    !name.bytes().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1)))
    })
}

#[tokio::test]
async fn migrations_that_start_together_take_turns() {
    let database = support::database().await;
    run(&mut database.connect().await, "drop schema headcount cascade").await;
    let migrations = (0..4).map(|_| headcount::store::migrate(&database.options));
    for migration in futures_util::future::join_all(migrations).await {
        migration.unwrap();
    }
    let ran = "select count(*) - count(distinct version) from headcount.migrations";
    assert_eq!(count(&mut database.connect().await, ran).await, 0);
}

#[tokio::test]
async fn who_holds_up_a_migration_can_be_found() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, "set application_name = 'a long report'").await;
    let mut report = connection.begin().await.unwrap();
    run(&mut report, "select count(*) from headcount.users").await;
    let holders = headcount::store::schema::holders(&database.options).await.unwrap();
    assert!(
        holders.iter().any(|holder| holder.contains("a long report") && holder.contains("holds users")),
        "{holders:?}"
    );
}

#[tokio::test]
async fn the_backlog_counts_what_nobody_has_routed_yet() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(
        &mut connection,
        "select headcount.webhook_put('crm', 'https://a.example/', '{member.joined}', '{lob*}', '0', true, null, 's', 20)",
    )
    .await;
    for (room, user, of) in [("lobby", "ann", 1), ("lobby", "bob", 2), ("other", "cat", 3)] {
        join(&mut connection, room, user, of).await;
    }
    let backlog = "select events * 100 + rooms * 10 + (since > now() - interval '1 min')::int from headcount.webhook_backlog()";
    assert_eq!(count(&mut connection, backlog).await, 211, "in the outbox");
    run(&mut connection, "select headcount.webhook_tick(gen_random_uuid(), 'test')").await;
    assert_eq!(count(&mut connection, backlog).await, 211, "routed");
}

#[tokio::test]
async fn a_stranger_who_listens_hears_no_name() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    drop(stranger(&database).await);
    let options = database.options.clone().username("headcount_stranger").password("stranger");
    let strangers = sqlx::PgPool::connect_with(options).await.unwrap();
    let mut listener = PgListener::connect_with(&strangers).await.unwrap();
    listener.listen("headcount").await.unwrap();
    let mut names = BTreeSet::new();
    for room in ["secret-room", "other"] {
        for of in 1..4 {
            join(&mut connection, room, &format!("agent-{of}"), of).await;
        }
        names.insert(listener.recv().await.unwrap().payload().to_owned());
        for payload in names.iter() {
            assert!(!["secret", "other", "agent"].iter().any(|name| payload.contains(name)), "{payload}");
        }
    }
}
