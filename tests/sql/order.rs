//! Requests that come late, twice, or from the wrong user.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::calls::{apply, blocked, command, count, heartbeat, join, leave, log, pass, pid, sweep, with};
use crate::support;
use crate::support::law::assert_lawful;

async fn one(connection: &mut PgConnection, op: &str, seq: i64) -> String {
    let command = with(command(op, "room", "ann", 1), "seq", seq);
    apply(connection, vec![command], true).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_join_that_comes_after_a_newer_leave_does_nothing() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    assert_eq!(one(&mut connection, "join", 1).await, "ok");
    assert_eq!(one(&mut connection, "leave", 2).await, "ok");
    assert_eq!(one(&mut connection, "join", 1).await, "ok", "answered with what is now");
    assert_eq!(log(&mut connection, "room").await, ["joined ann", "left ann left"]);
    assert_eq!(count(&mut connection, "select count(*) from headcount.presence").await, 0);
    assert_eq!(one(&mut connection, "join", 3).await, "ok");
    assert_eq!(log(&mut connection, "room").await, ["joined ann", "left ann left", "joined ann"]);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_leave_that_overtook_its_join_keeps_it_out() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    assert_eq!(one(&mut connection, "leave", 2).await, "absent");
    assert_eq!(one(&mut connection, "join", 1).await, "ok", "answered with what is now");
    assert_eq!(log(&mut connection, "room").await, [""; 0]);
    assert_eq!(count(&mut connection, "select count(*) from headcount.presence").await, 0);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn an_older_leave_does_not_end_a_newer_join() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for (op, seq) in [("join", 1), ("leave", 2), ("join", 3), ("leave", 2), ("update", 2)] {
        assert_eq!(one(&mut connection, op, seq).await, "ok");
    }
    assert_eq!(log(&mut connection, "room").await, ["joined ann", "left ann left", "joined ann"]);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_session_stays_its_first_users_after_it_is_gone() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "room", "ann", 1).await;
    assert_eq!(join(&mut connection, "room", "eve", 1).await.outcome, "foreign");
    leave(&mut connection, "room", "ann", 1).await;
    for room in ["room", "other"] {
        assert_eq!(join(&mut connection, room, "eve", 1).await.outcome, "foreign", "to {room}");
        assert_eq!(leave(&mut connection, room, "eve", 1).await.outcome, "foreign", "from {room}");
    }
    assert_eq!(join(&mut connection, "other", "ann", 1).await.outcome, "ok");

    pass(&mut connection, "ann", 46).await;
    assert_eq!(sweep(&mut connection).await.expired, 1);
    assert_eq!(join(&mut connection, "other", "eve", 1).await.outcome, "foreign", "after it expired");
    assert_eq!(count(&mut connection, "select count(*) from headcount.presence").await, 0);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn two_users_who_leave_with_one_unknown_session_do_not_fail_the_batch() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let leave = |user| with(command("leave", "room", user, 1), "seq", 1);
    let batch = vec![leave("ann"), leave("eve"), command("join", "room", "bob", 2)];
    let outcomes = apply(&mut connection, batch, true).await.expect("one bad pair stops nobody else");
    assert_eq!(outcomes, ["absent", "absent", "ok"]);
    assert_eq!(join(&mut connection, "room", "eve", 1).await.outcome, "foreign", "ann was first");
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_heartbeat_never_creates_a_session() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    assert!(!heartbeat(&mut connection, "ann", 1).await, "never joined");
    join(&mut connection, "room", "ann", 1).await;
    assert!(heartbeat(&mut connection, "ann", 1).await);
    assert!(!heartbeat(&mut connection, "eve", 1).await, "somebody else's");
    leave(&mut connection, "room", "ann", 1).await;
    assert!(!heartbeat(&mut connection, "ann", 1).await, "after its leave");
    join(&mut connection, "room", "ann", 1).await;
    pass(&mut connection, "ann", 46).await;
    sweep(&mut connection).await;
    assert!(!heartbeat(&mut connection, "ann", 1).await, "after the sweep");
    assert_eq!(count(&mut connection, "select count(*) from headcount.presence").await, 0);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn the_first_join_of_a_user_and_its_leave_meet_in_either_order() {
    for (first, second) in [(("join", 1), ("leave", 2)), (("leave", 2), ("join", 1))] {
        let database = support::database().await;
        let (mut one, mut other) = (database.connect().await, database.connect().await);
        let mut observer = database.connect().await;
        let mut transaction = one.begin().await.unwrap();
        self::one(&mut transaction, first.0, first.1).await;
        let pid = pid(&mut other).await;
        let waiting = tokio::spawn(async move { self::one(&mut other, second.0, second.1).await });
        assert!(blocked(&mut observer, pid, &waiting).await, "the {} waits for the other", second.0);
        transaction.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap(), "ok");
        let members = count(&mut observer, "select count(*) from headcount.rosters").await;
        assert_eq!(members, 0, "the leave is newer, whether it came after {} or before", first.0);
        assert_lawful(&mut observer).await;
    }
}

#[tokio::test]
async fn a_leave_makes_no_user() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    for wait in [true, false] {
        let batch = vec![command("leave", "room", "ann", 1), command("kick", "room", "bob", 2)];
        assert_eq!(apply(&mut connection, batch, wait).await.unwrap(), ["absent", "ok"]);
        assert_eq!(count(&mut connection, "select count(*) from headcount.users").await, 0);
    }
}
