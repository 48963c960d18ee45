//! What the trim forgets, and what happens when it comes back.

use sqlx::Connection;

use crate::calls::{blocked, count, join, leave, log, pid, run};
use crate::support;
use crate::support::law::assert_lawful;

/// Forgets everything that may be: the log, then the rooms, in two more calls.
const FORGET: &str = "select headcount.trim('0'); select headcount.trim('0')";

#[tokio::test]
async fn a_forgotten_room_created_again_has_another_epoch() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let before = join(&mut connection, "room", "ann", 1).await;
    leave(&mut connection, "room", "ann", 1).await;
    join(&mut connection, "occupied", "bob", 2).await;
    run(&mut connection, FORGET).await;
    assert_eq!(
        count(&mut connection, "select count(*) from headcount.rooms").await,
        1,
        "an occupied room stays"
    );
    let after = join(&mut connection, "room", "ann", 1).await;
    assert_eq!((before.version, after.version), (1, 1));
    assert_ne!(before.epoch, after.epoch);
}

#[tokio::test]
async fn a_room_with_a_log_is_not_forgotten() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "room", "ann", 1).await;
    leave(&mut connection, "room", "ann", 1).await;
    run(&mut connection, "select headcount.trim(); select headcount.trim()").await;
    assert_eq!(log(&mut connection, "room").await, ["joined ann", "left ann left"]);
    assert_eq!(join(&mut connection, "room", "ann", 1).await.version, 3);
    assert_lawful(&mut connection).await;
}

#[tokio::test]
async fn a_room_forgotten_while_somebody_waits_to_join_it_is_created_again() {
    let database = support::database().await;
    let (mut trimmer, mut joiner) = (database.connect().await, database.connect().await);
    let mut observer = database.connect().await;
    let before = join(&mut joiner, "room", "ann", 1).await;
    leave(&mut joiner, "room", "ann", 1).await;
    run(&mut trimmer, "select headcount.trim('0')").await;

    let mut trimming = trimmer.begin().await.unwrap();
    run(&mut trimming, "select headcount.trim('0')").await;
    let pid = pid(&mut joiner).await;
    let joining = tokio::spawn(async move { join(&mut joiner, "room", "ann", 1).await });
    assert!(blocked(&mut observer, pid, &joining).await, "the trim has the room");
    trimming.commit().await.unwrap();

    let after = joining.await.unwrap();
    assert_eq!((after.outcome.as_str(), after.version), ("ok", 1));
    assert_ne!(before.epoch, after.epoch);
    assert_lawful(&mut observer).await;
}

#[tokio::test]
async fn a_room_with_nobody_but_an_invisible_member_is_not_forgotten() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(
        &mut connection,
        "select headcount.join('den', 'ann', '00000000-0000-0000-0000-000000000001', p_invisible => true)",
    )
    .await;
    for _ in 0..3 {
        run(&mut connection, "select headcount.trim('0 s')").await;
    }
    assert_eq!(count(&mut connection, "select count(*) from headcount.rooms").await, 1);
    assert_eq!(count(&mut connection, "select generation::bigint from headcount.lineage").await, 0);
    run(
        &mut connection,
        "select headcount.update('den', 'ann', '00000000-0000-0000-0000-000000000001', p_invisible => false)",
    )
    .await;
    assert_eq!(log(&mut connection, "den").await, ["joined ann"]);
}
