//! Profiles changed by plain SQL, past the functions: every room hears of it, by the same rules.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::Executor;
use sqlx::postgres::{PgConnection, PgListener, PgPool};

use crate::calls::{apply, command, count, heartbeat, join, log, pool, run, with};
use crate::support;
use crate::support::law::assert_lawful;

const CONNECTIONS: u32 = 8;

const NAMES: &str = "select string_agg(distinct member ->> 'name', ' ' order by member ->> 'name') \
     from (select headcount.member(r) as member from headcount.rosters r) r";

async fn names(connection: &mut PgConnection) -> String {
    sqlx::query_scalar(NAMES).fetch_one(connection).await.unwrap()
}

/// What was notified of since it was asked last.
async fn notified(listener: &mut PgListener, connection: &mut PgConnection) -> Vec<String> {
    run(connection, "select pg_notify('headcount', 'end')").await;
    let mut payloads = Vec::new();
    loop {
        match listener.recv().await.unwrap().payload() {
            "end" => return payloads,
            payload => payloads.push(payload.to_owned()),
        }
    }
}

/// How a notification names these rooms.
async fn marks(connection: &mut PgConnection, rooms: &[&str]) -> String {
    let marks =
        "select string_agg(mark::text, ' ' order by mark) from headcount.rooms where room_id = any ($1)";
    sqlx::query_scalar(marks).bind(rooms).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_plain_change_of_a_profile_is_an_update_in_every_room_and_one_notification() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let mut listener = PgListener::connect_with(&pool(&database, 1).await).await.unwrap();
    join(&mut connection, "a", "ann", 1).await;
    join(&mut connection, "b", "ann", 1).await;
    join(&mut connection, "b", "bob", 2).await;
    listener.listen("headcount").await.unwrap();
    notified(&mut listener, &mut connection).await;

    run(&mut connection, "update headcount.users set name = upper(name)").await;
    let both = marks(&mut connection, &["a", "b"]).await;
    assert_eq!(notified(&mut listener, &mut connection).await, [both.as_str()]);
    assert_eq!(log(&mut connection, "a").await, ["joined ann", "updated ann"]);
    let updates = log(&mut connection, "b").await.split_off(2);
    assert!(
        updates.contains(&"updated ann".into()) && updates.contains(&"updated bob".into()),
        "{updates:?}"
    );
    assert_eq!(names(&mut connection).await, "ANN BOB");

    let again = "insert into headcount.users (user_id, name) values ('ann', 'Ann'), ('cat', 'Cat') \
         on conflict (user_id) do update set name = excluded.name, avatar_url = 'https://example.org/a.png'";
    run(&mut connection, again).await;
    assert_eq!(notified(&mut listener, &mut connection).await, [both]);
    assert_eq!(names(&mut connection).await, "Ann BOB");
    let dated =
        "select count(*) from headcount.users where updated_at > clock_timestamp() - interval '1 min'";
    assert_eq!(count(&mut connection, dated).await, 3);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn what_no_room_shows_is_no_event() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "a", "ann", 1).await;
    let hidden = with(command("join", "a", "bob", 2), "invisible", true);
    apply(&mut connection, vec![hidden], true).await.unwrap();
    for change in [
        "update headcount.users set name = name",
        "update headcount.users set show_last_seen = 'hidden'",
        "update headcount.users set last_seen_at = now()",
        "update headcount.users set name = 'Bob' where user_id = 'bob'",
        "update headcount.users set name = 'Nobody' where user_id = 'nobody'",
        "insert into headcount.users (user_id, name) values ('cat', 'Cat')",
    ] {
        run(&mut connection, change).await;
        assert_eq!(log(&mut connection, "a").await, ["joined ann"], "{change}");
    }
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn the_functions_change_a_profile_once_and_in_a_transaction_with_plain_changes_too() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "a", "ann", 1).await;
    let put = "begin; \
         select headcount.put_users(array[('ann', 'One', null, null)::headcount.profile]); \
         update headcount.users set name = 'Two' where user_id = 'ann'; \
         select headcount.put_users(array[('ann', 'Three', null, null)::headcount.profile]); \
         commit";
    connection.execute(sqlx::raw_sql(put)).await.unwrap();
    let named = with(command("join", "b", "ann", 1), "name", "Four");
    apply(&mut connection, vec![named], true).await.unwrap();
    let changes = "select count(*) from headcount.events where room_id = 'a' and kind = 'updated'";
    assert_eq!(count(&mut connection, changes).await, 4);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn deleting_a_profile_ends_its_users_presence() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for room in ["a", "b"] {
        join(&mut connection, room, "ann", 1).await;
        join(&mut connection, room, "ann", 2).await;
        join(&mut connection, room, "bob", 3).await;
    }
    let hidden = with(command("join", "c", "ann", 1), "invisible", true);
    apply(&mut connection, vec![hidden], true).await.unwrap();
    run(&mut connection, "delete from headcount.users where user_id in ('ann', 'nobody')").await;
    for room in ["a", "b"] {
        assert_eq!(log(&mut connection, room).await, ["joined ann", "joined bob", "left ann left"]);
    }
    assert_eq!(log(&mut connection, "c").await, [""; 0]);
    assert!(!heartbeat(&mut connection, "ann", 1).await);
    assert!(heartbeat(&mut connection, "bob", 3).await);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn the_id_of_a_user_never_changes() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "a", "ann", 1).await;
    let renamed = connection.execute("update headcount.users set user_id = 'eve'").await;
    let error = renamed.unwrap_err().into_database_error().unwrap();
    assert_eq!(error.message(), "the id of a user never changes");
}

#[tokio::test]
async fn five_hundred_profiles_change_in_one_statement() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let mut listener = PgListener::connect_with(&pool(&database, 1).await).await.unwrap();
    let room = |n| if n % 2 == 0 { "even".to_owned() } else { format!("odd-{}", n % 100) };
    let joins = (0..500).map(|n| command("join", &room(n), &format!("user-{n}"), n));
    apply(&mut connection, joins.collect(), true).await.unwrap();
    listener.listen("headcount").await.unwrap();
    notified(&mut listener, &mut connection).await;
    run(&mut connection, "update headcount.users set name = 'Another ' || user_id").await;
    let payloads = notified(&mut listener, &mut connection).await;
    assert_eq!(payloads.len(), 1, "{payloads:?}");
    let changes = "select count(*) from headcount.events where kind = 'updated'";
    assert_eq!(count(&mut connection, changes).await, 500);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn an_application_changes_profiles_by_plain_sql_and_deletes_none() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let mut transaction = sqlx::Connection::begin(&mut connection).await.unwrap(); // so that the role is gone afterwards
    run(&mut transaction, "create role an_application").await;
    run(&mut transaction, "select headcount.grant_to_application('an_application')").await;
    join(&mut transaction, "a", "ann", 1).await;
    run(&mut transaction, "set local role an_application").await;
    run(&mut transaction, "update headcount.users set name = 'Ann' where user_id = 'ann'").await;
    run(&mut transaction, "reset role").await;
    assert_eq!(log(&mut transaction, "a").await, ["joined ann", "updated ann"]);
    run(&mut transaction, "set local role an_application").await;
    let refused = transaction.execute("delete from headcount.users").await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501");
}

/// Plain statements lock the users they meet in the order in which they are told to; without one they can meet others
/// the other way round, as on any table.
#[tokio::test]
async fn plain_changes_among_batches_and_sweeps_never_deadlock() {
    let database = support::database().await;
    let pool = pool(&database, CONNECTIONS).await;
    let workers: Vec<_> =
        (0..CONNECTIONS).map(|seed| tokio::spawn(work(pool.clone(), u64::from(seed)))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let mut connection = pool.acquire().await.unwrap();
    let changes = "select count(*) from headcount.events where kind = 'updated'";
    assert!(count(&mut connection, changes).await > 50);
    assert_lawful(&mut connection).await;
}

async fn work(pool: PgPool, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut connection = pool.acquire().await.unwrap();
    for _ in 0..60 {
        let many = "update headcount.users set name = $1 where user_id in \
             (select user_id from headcount.users where user_id <> $2 order by user_id for update)";
        let one = "update headcount.users set name = $1 where user_id = $2";
        let gone = "delete from headcount.users where $1 <> '' and user_id = $2";
        let statement = match random.random_range(0..10) {
            0..5 => {
                let joins = (0..8).map(|_| random_command(&mut random)).collect();
                apply(&mut connection, joins, random.random()).await.unwrap();
                continue;
            }
            5 => {
                run(&mut connection, "select headcount.sweep('1 s', '0 s')").await;
                continue;
            }
            6..8 => one,
            8 => many,
            _ => gone,
        };
        let name = random.random_range(0..100).to_string();
        let plain = sqlx::query(statement).bind(name).bind(user(&mut random));
        plain.execute(&mut *connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

fn user(random: &mut StdRng) -> String {
    format!("user-{}", random.random_range(0..8))
}

fn random_command(random: &mut StdRng) -> serde_json::Value {
    let op = if random.random_ratio(2, 3) { "join" } else { "leave" };
    let number: u128 = random.random_range(0..24);
    command(op, &format!("room-{}", random.random_range(0..6)), &format!("user-{}", number % 8), number)
}
