//! Erasing: at once for whoever looks, in steps in the log, whatever its size.

use sqlx::PgConnection;

use crate::calls::{count, join, log, run};
use crate::support;
use crate::support::law::assert_lawful;

/// 100,000 events of one user, and as many of others, in a log of some 30 MB.
const LARGE: &str = "insert into headcount.events (room_id, version, kind, user_id, member) \
     select 'old', n, 'updated', case when n % 2 = 0 then 'ann' else 'bob' end, \
            jsonb_build_object('name', 'Ann', 'n', n) \
     from generate_series(1, 200000) n";

const OF_ANN: &str = "select count(*) from headcount.events where user_id = 'ann' and member is not null";

/// Steps of so many blocks until nobody waits, each within the time that the service gives a statement.
async fn steps(connection: &mut PgConnection, blocks: i32) -> i64 {
    let mut taken = 0;
    run(connection, "set statement_timeout = '1800 ms'").await;
    let step = "select headcount.erase_step($1, '0')";
    while sqlx::query_scalar(step).bind(blocks).fetch_one(&mut *connection).await.unwrap() {
        taken += 1;
    }
    taken
}

#[tokio::test]
async fn a_large_log_forgets_a_user_in_steps_and_nobody_else() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "den", "ann", 1).await;
    run(&mut connection, LARGE).await;
    run(&mut connection, "set statement_timeout = '1800 ms'; select headcount.erase_user('ann')").await;
    assert_eq!(log(&mut connection, "den").await, ["joined ann", "left ann left"], "at once");
    assert!(count(&mut connection, OF_ANN).await > 100_000, "the call itself reads no log");
    assert!(steps(&mut connection, 200).await > 10);
    assert_eq!(count(&mut connection, OF_ANN).await, 0);
    let of_bob = "select count(*) from headcount.events where user_id = 'bob' and member is not null";
    assert_eq!(count(&mut connection, of_bob).await, 100_000);
}

#[tokio::test]
async fn the_log_tells_nothing_of_the_erased_while_it_is_still_being_searched() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "den", "ann", 1).await;
    run(&mut connection, "create temp table moment as select clock_timestamp() as at").await;
    run(&mut connection, "select headcount.erase_user('ann')").await;
    assert_eq!(count(&mut connection, OF_ANN).await, 1, "still there");
    let replayed = "select count(*) from headcount.tails(array['den'], array[headcount.epoch()], array[0], 10) \
         where kind = 'joined' and member is not null";
    assert_eq!(count(&mut connection, replayed).await, 0);
    let past = "select count(*) from moment, headcount.members_at('den', moment.at) m where m.exact or m.name <> 'ann'";
    assert_eq!(count(&mut connection, past).await, 0);
}

#[tokio::test]
async fn who_comes_back_after_an_erasure_keeps_what_is_said_since() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "den", "ann", 1).await;
    run(&mut connection, "select headcount.erase_user('ann')").await;
    join(&mut connection, "den", "ann", 2).await;
    assert_eq!(count(&mut connection, "select headcount.erase_step(1, '0')::int::bigint").await, 1);
    let kept = "select max(version) from headcount.tails(array['den'], array[headcount.epoch()], array[0], 10) \
         where kind = 'joined' and member is not null";
    assert_eq!(count(&mut connection, kept).await, 3);
    steps(&mut connection, 1000).await;
    assert_eq!(count(&mut connection, OF_ANN).await, 1);
    assert_eq!(count(&mut connection, kept).await, 3);
    assert_lawful(&mut connection).await;
}

/// One who is erased again during a pass, after coming back, needs another pass; one who only asks again does not.
#[tokio::test]
async fn an_erasure_during_a_pass_is_for_what_happened_since() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let erase = "select headcount.erase_user('ann')::int::bigint";
    join(&mut connection, "den", "ann", 1).await;
    assert_eq!(count(&mut connection, erase).await, 1);
    assert_eq!(count(&mut connection, "select headcount.erase_step(1, '0')::int::bigint").await, 1);
    let again = "select count(*) from headcount.erasures where begun and again";
    assert_eq!(count(&mut connection, erase).await, 1, "it is still being searched");
    assert_eq!(count(&mut connection, again).await, 0, "nothing is new");
    join(&mut connection, "den", "ann", 2).await;
    assert_eq!(count(&mut connection, erase).await, 1);
    assert_eq!(count(&mut connection, again).await, 1);
    steps(&mut connection, 1000).await;
    assert_eq!(count(&mut connection, OF_ANN).await, 0);
    assert_eq!(count(&mut connection, "select count(*) from headcount.departures").await, 0);
    assert_eq!(count(&mut connection, "select count(*) from headcount.users").await, 0);
}

#[tokio::test]
async fn a_step_soon_after_another_or_beside_one_does_nothing() {
    let database = support::database().await;
    let (mut one, mut other) = (database.connect().await, database.connect().await);
    join(&mut one, "den", "ann", 1).await;
    run(&mut one, "select headcount.erase_user('ann'); select headcount.erase_step(1, '0')").await;
    let moved = "select count(*) from headcount.erasure_pass p where (p.part, p.block) <> (select w.part, w.block from was w)";
    run(&mut one, "create temp table was as select part, block from headcount.erasure_pass").await;
    assert_eq!(count(&mut one, "select headcount.erase_step(1, '1 h')::int::bigint").await, 1);
    run(&mut one, "begin; select from headcount.erasure_pass for update").await;
    assert_eq!(count(&mut other, "select headcount.erase_step(1, '0')::int::bigint").await, 1);
    run(&mut one, "rollback").await;
    assert_eq!(count(&mut one, moved).await, 0);
}
