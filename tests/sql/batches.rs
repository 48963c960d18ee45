//! A batch: whole or not at all, except for what somebody holds.

use serde_json::Value;
use sqlx::Connection;

use crate::calls::{apply, command, count, join, log, run, with};
use crate::support;
use crate::support::law::assert_lawful;

#[tokio::test]
async fn a_batch_is_refused_whole_or_applied_whole() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let good = || -> Vec<Value> {
        (0..50).map(|n| command("join", &format!("room-{}", n % 5), &format!("user-{n}"), n)).collect()
    };
    let bad = [
        with(command("join", "room-1", "ann", 100), "status", "asleep"),
        command("join", "no room", "ann", 100),
        command("join", "room-1", "", 100),
        with(command("join", "room-1", "ann", 100), "name", "x".repeat(257)),
        with(command("join", "room-1", "ann", 100), "seq", "first"),
    ];
    for bad in bad {
        let mut batch = good();
        batch.insert(25, bad.clone());
        apply(&mut connection, batch, true).await.expect_err(&bad.to_string());
        let left = "select (select count(*) from headcount.rooms) + (select count(*) from headcount.users) \
             + (select count(*) from headcount.presence) + (select count(*) from headcount.events)";
        assert_eq!(count(&mut connection, left).await, 0, "nothing of a batch with {bad}");
    }
    assert_eq!(apply(&mut connection, good(), true).await.unwrap(), ["ok"; 50]);
    assert_eq!(count(&mut connection, "select count(*) from headcount.events").await, 50);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_held_room_is_answered_busy_and_the_rest_of_the_batch_is_done() {
    let database = support::database().await;
    let (mut holder, mut connection) = (database.connect().await, database.connect().await);
    join(&mut connection, "held", "ann", 1).await;
    join(&mut connection, "free", "ann", 1).await;
    let mut holding = holder.begin().await.unwrap();
    run(&mut holding, "select from headcount.rooms where room_id = 'held' for update").await;

    run(&mut connection, "set lock_timeout = '2 s'").await;
    let batch = vec![
        command("leave", "held", "ann", 1),
        command("leave", "free", "ann", 1),
        command("join", "held", "bob", 2),
        command("join", "free", "bob", 2),
        command("join", "new", "cid", 3),
        // A new name must show in all rooms of its user, so one held room makes all of this user's commands busy.
        with(command("join", "free", "ann", 4), "name", "Ann"),
    ];
    let outcomes = apply(&mut connection, batch, false).await.expect("it waits for nobody");
    assert_eq!(outcomes, ["busy", "busy", "busy", "ok", "ok", "busy"]);
    holding.rollback().await.unwrap();

    assert_eq!(log(&mut connection, "held").await, ["joined ann"]);
    assert_eq!(log(&mut connection, "free").await, ["joined ann", "joined bob"]);
    assert_eq!(log(&mut connection, "new").await, ["joined cid"]);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_room_that_somebody_is_just_creating_is_answered_busy() {
    let database = support::database().await;
    let (mut holder, mut connection) = (database.connect().await, database.connect().await);
    let mut holding = holder.begin().await.unwrap();
    join(&mut holding, "new", "ann", 1).await;

    run(&mut connection, "set lock_timeout = '2 s'").await;
    let batch = vec![command("join", "new", "bob", 2), command("join", "other", "cid", 3)];
    assert_eq!(apply(&mut connection, batch.clone(), false).await.expect("it waits for nobody")[0], "busy");
    holding.commit().await.unwrap();

    assert_eq!(apply(&mut connection, batch, false).await.unwrap(), ["ok", "ok"]);
    assert_eq!(log(&mut connection, "new").await, ["joined ann", "joined bob"]);
    assert_eq!(log(&mut connection, "other").await, ["joined cid"]);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_user_whom_somebody_holds_is_answered_busy() {
    let database = support::database().await;
    let (mut holder, mut connection) = (database.connect().await, database.connect().await);
    join(&mut connection, "room", "ann", 1).await;
    join(&mut connection, "other", "bob", 3).await;
    let mut holding = holder.begin().await.unwrap();
    join(&mut holding, "elsewhere", "ann", 1).await;
    join(&mut holding, "elsewhere", "new", 2).await;

    run(&mut connection, "set lock_timeout = '2 s'").await;
    let batch = vec![
        command("leave", "room", "ann", 1),
        command("join", "room", "bob", 3),
        command("join", "room", "new", 4),
    ];
    let outcomes = apply(&mut connection, batch, false).await.expect("it waits for nobody");
    assert_eq!(outcomes, ["busy", "ok", "busy"]);
    holding.commit().await.unwrap();

    assert_eq!(log(&mut connection, "room").await, ["joined ann", "joined bob"]);
    assert_lawful(&mut connection).await;
}
