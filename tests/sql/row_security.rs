//! The example of row-level security in docs/history.md, as it stands there: whoever copies it has what it says.

use sqlx::{Connection, Executor, PgConnection};

use crate::calls::{count, join, leave, run};
use crate::support;

const PAGE: &str = include_str!("../../docs/history.md");

/// The statements after the comment that names this file.
fn example() -> &'static str {
    let block = PAGE.split("<!-- tried by tests/sql/row_security.rs").nth(1).unwrap();
    block.split("```sql\n").nth(1).unwrap().split("```").next().unwrap()
}

#[tokio::test]
async fn the_example_of_row_level_security_shows_only_ones_own_rooms() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for (room, user, of) in [("a", "ann", 1), ("b", "ann", 1), ("b", "bob", 2)] {
        join(&mut connection, room, user, of).await;
    }
    let mut transaction = connection.begin().await.unwrap(); // so that the role is gone afterwards
    transaction.execute(example()).await.unwrap();
    run(&mut transaction, "insert into app.room_access values ('a', 'ann'), ('b', 'bob'), ('b', 'cid')")
        .await;
    run(&mut transaction, "set local role web").await;
    for (user, rosters, events) in [("ann", 1, 1), ("bob", 2, 2), ("cid", 2, 2), ("eve", 0, 0)] {
        sqlx::query("select set_config('app.user_id', $1, true)")
            .bind(user)
            .execute(&mut *transaction)
            .await
            .unwrap();
        for (seen, wanted) in [
            ("select count(*) from app.rosters", rosters),
            ("select count(*) from headcount.events", events),
            ("select count(*) from app.stays", events),
        ] {
            assert_eq!(count(&mut transaction, seen).await, wanted, "{seen} as {user}");
        }
    }
    for refused in
        ["headcount.rosters", "headcount.stays", "headcount.events_default", "headcount.memberships"]
    {
        let mut point = transaction.begin().await.unwrap();
        let statement = sqlx::AssertSqlSafe(format!("select from {refused}"));
        let error = point.execute(statement).await.expect_err(refused);
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "42501", "{refused}");
        point.rollback().await.unwrap();
    }
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn a_service_reads_all_of_a_log_that_has_policies() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, "alter table headcount.events enable row level security").await;
    join(&mut connection, "a", "ann", 1).await;
    leave(&mut connection, "a", "ann", 1).await;
    let mut service = PgConnection::connect_with(&database.service).await.unwrap();
    let replay = "select count(*) from headcount.tails(array['a'], array[headcount.epoch()], array[0], 5000)";
    assert_eq!(count(&mut service, replay).await, 2);
    run(&mut service, "select headcount.turn_days('0 s'); select headcount.trim('0 s')").await;
    assert_eq!(count(&mut connection, "select count(*) from headcount.events").await, 0);
}
