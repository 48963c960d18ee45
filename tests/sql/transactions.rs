//! An application's own transaction.

use sqlx::Connection;

use crate::calls::{blocked, count, join, log, pid, run};
use crate::support;
use crate::support::law::assert_lawful;

const EVERYTHING: &str = "select (select count(*) from orders) + (select count(*) from headcount.users) \
     + (select count(*) from headcount.rooms) + (select count(*) from headcount.presence) \
     + (select count(*) from headcount.memberships) + (select count(*) from headcount.events) \
     + (select count(*) from headcount.departures)";

#[tokio::test]
async fn an_application_can_join_inside_its_own_transaction() {
    let database = support::database().await;
    let mut application = database.connect().await;
    let mut other = database.connect().await;
    run(&mut application, "create table orders (who text)").await;

    let mut transaction = application.begin().await.unwrap();
    run(&mut transaction, "insert into orders values ('ann')").await;
    let joined = join(&mut transaction, "shop", "ann", 1).await;
    assert_eq!((joined.outcome.as_str(), joined.version), ("ok", 1));
    assert_eq!(count(&mut other, EVERYTHING).await, 0, "nobody sees it before the commit");
    transaction.commit().await.unwrap();

    assert_eq!(count(&mut other, "select count(*) from orders").await, 1);
    assert_eq!(log(&mut other, "shop").await, ["joined ann"]);
    assert_lawful(&mut other).await;
}

#[tokio::test]
async fn a_join_in_a_transaction_that_is_rolled_back_leaves_nothing() {
    let database = support::database().await;
    let mut application = database.connect().await;
    run(&mut application, "create table orders (who text)").await;

    let mut transaction = application.begin().await.unwrap();
    run(&mut transaction, "insert into orders values ('ann')").await;
    join(&mut transaction, "shop", "ann", 1).await;
    transaction.rollback().await.unwrap();
    assert_eq!(count(&mut application, EVERYTHING).await, 0);

    // Nor is its version missed by whoever comes next.
    assert_eq!(join(&mut application, "shop", "bob", 2).await.version, 1);
    assert_lawful(&mut application).await;
}

#[tokio::test]
async fn a_join_that_waited_for_its_room_counts_from_when_it_got_it() {
    let database = support::database().await;
    let (mut holder, mut connection) = (database.connect().await, database.connect().await);
    join(&mut connection, "shop", "bob", 2).await;

    let mut holding = holder.begin().await.unwrap();
    run(&mut holding, "select from headcount.rooms where room_id = 'shop' for update").await;
    let pid = pid(&mut connection).await;
    let waiting = tokio::spawn(async move { join(&mut connection, "shop", "ann", 1).await });
    let mut observer = database.connect().await;
    assert!(blocked(&mut observer, pid, &waiting).await, "somebody holds the room");
    run(&mut observer, "create table released as select clock_timestamp() as at").await;
    holding.commit().await.unwrap();

    waiting.await.unwrap();
    let early = "select count(*) from headcount.presence, released where user_id = 'ann' and last_seen < at";
    assert_eq!(count(&mut observer, early).await, 0, "its lease does not start before it could be renewed");
}
