//! What webhooks stand on: whatever writes to the log is seen, in whichever order transactions commit, and what they have still
//! to tell is kept.

use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::calls::{count, join, leave, pass, run, session, sweep};
use crate::support;

const HOOK: &str = "select headcount.webhook_put('hook', 'https://app.example/', '{member.joined}', '{*}', '0', true, \
    null, 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD', 20)";

/// Looks, and gives where the webhook is behind: `room from version to version, members before`.
async fn behind(connection: &mut PgConnection) -> Vec<String> {
    tick(connection).await;
    let rooms = "select format('%s %s to %s, %s', room_id, version, head, count) from headcount.webhook_rooms order by room_id, version";
    sqlx::query_scalar(rooms).fetch_all(connection).await.unwrap()
}

/// Gives the claim, when it was had.
async fn tick(connection: &mut PgConnection) -> Option<Uuid> {
    let id = Uuid::new_v4();
    let tick = "select claimed <> '{}' from headcount.webhook_tick($1, 'test')";
    let had: bool = sqlx::query_scalar(tick).bind(id).fetch_one(connection).await.unwrap();
    had.then_some(id)
}

async fn make(connection: &mut PgConnection, claim: Uuid, events: Value, rooms: Value) -> bool {
    sqlx::query_scalar("select headcount.webhook_make('hook', $1, gen_random_uuid(), $2, $3)")
        .bind(claim)
        .bind(Json(events))
        .bind(Json(rooms))
        .fetch_one(connection)
        .await
        .unwrap()
}

async fn moved(connection: &mut PgConnection, room: &str, from: i64, version: i64) -> Value {
    let epoch: String = sqlx::query_scalar("select epoch from headcount.rooms where room_id = $1")
        .bind(room)
        .fetch_one(connection)
        .await
        .unwrap();
    json!([{"room_id": room, "epoch": epoch, "from": from, "version": version, "count": 1, "returns": [],
            "due_at": "2000-01-01T00:00:00Z"}])
}

#[tokio::test]
async fn whatever_writes_to_the_log_is_seen() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, "update headcount.sweep_state set leases_from = '-infinity', recovering = false")
        .await;
    run(&mut connection, HOOK).await;
    join(&mut connection, "a", "ann", 1).await;
    join(&mut connection, "a", "bob", 2).await;
    assert_eq!(behind(&mut connection).await, ["a 0 to 2, 0"]);
    run(
        &mut connection,
        "select headcount.update('a', 'ann', '00000000-0000-0000-0000-000000000001', 'dnd')",
    )
    .await;
    assert_eq!(behind(&mut connection).await, ["a 0 to 3, 0"]);
    run(&mut connection, "select headcount.put_users(array[('ann', 'Ann', null, null)::headcount.profile])")
        .await;
    assert_eq!(behind(&mut connection).await, ["a 0 to 4, 0"]);
    run(
        &mut connection,
        "update headcount.presence set last_active = now() - interval '1 hour' where user_id = 'bob'",
    )
    .await;
    run(
        &mut connection,
        "select headcount.refresh_idle(array['00000000-0000-0000-0000-000000000002']::uuid[])",
    )
    .await;
    assert_eq!(behind(&mut connection).await, ["a 0 to 5, 0"]);
    run(&mut connection, "select headcount.kick('a', 'bob')").await;
    assert_eq!(behind(&mut connection).await, ["a 0 to 6, 0"]);
    join(&mut connection, "b", "cy", 3).await;
    pass(&mut connection, "cy", 60).await;
    assert_eq!(sweep(&mut connection).await.departed, 1);
    run(&mut connection, "select headcount.erase_user('ann')").await;
    assert_eq!(behind(&mut connection).await, ["a 0 to 7, 0", "b 0 to 2, 0"]);
    let joined = "select count(*) from headcount.events where kind = 'joined'";
    assert_eq!(count(&mut connection, joined).await, 3);
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped_and_one_that_is_rolled_back_leaves_nothing() {
    let database = support::database().await;
    let (mut early, mut late) = (database.connect().await, database.connect().await);
    run(&mut early, HOOK).await;
    join(&mut early, "a", "zoe", 9).await;
    let mut open = late.begin().await.unwrap();
    join(&mut open, "a", "ann", 1).await;
    leave(&mut open, "a", "ann", 1).await;
    let mut dropped = database.connect().await;
    let mut undone = dropped.begin().await.unwrap();
    join(&mut undone, "c", "cy", 3).await;
    join(&mut early, "b", "bob", 2).await;
    assert_eq!(behind(&mut early).await, ["a 0 to 1, 0", "b 0 to 1, 0"]);
    undone.rollback().await.unwrap();
    open.commit().await.unwrap();
    assert_eq!(behind(&mut early).await, ["a 0 to 3, 0", "b 0 to 1, 0"]);
    assert_eq!(count(&mut early, "select count(*) from headcount.webhook_outbox").await, 0);
}

#[tokio::test]
async fn one_claims_at_a_time_and_what_a_lost_claim_decides_is_not_done() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, HOOK).await;
    join(&mut connection, "a", "ann", 1).await;
    let first = tick(&mut connection).await.expect("the first look claims");
    assert_eq!(tick(&mut connection).await, None);
    run(&mut connection, "update headcount.webhook_deliveries set leased_until = clock_timestamp()").await;
    let second = tick(&mut connection).await.expect("the lease ran out");
    let moved = moved(&mut connection, "a", 0, 1).await;
    assert!(!make(&mut connection, first, json!([{}]), moved.clone()).await, "its claim is lost");
    let back = self::moved(&mut connection, "a", 0, 0).await;
    assert!(make(&mut connection, second, json!([]), moved.clone()).await);
    join(&mut connection, "a", "bob", 2).await;
    join(&mut connection, "a", "cy", 3).await;
    assert_eq!(behind(&mut connection).await, ["a 1 to 3, 1"]);
    assert!(!make(&mut connection, second, json!([]), back).await, "the cursor is elsewhere");
    assert_eq!(behind(&mut connection).await, ["a 1 to 3, 1"]);
    let on = self::moved(&mut connection, "a", 1, 2).await;
    assert!(make(&mut connection, second, json!([{}]), on).await);
    let further = self::moved(&mut connection, "a", 2, 3).await;
    assert!(!make(&mut connection, second, json!([{}]), further).await, "there is a batch already");
    assert_eq!(count(&mut connection, "select count(*) from headcount.webhook_batches").await, 1);
}

#[tokio::test]
async fn of_two_epochs_of_a_room_each_is_told_as_its_own() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, HOOK).await;
    join(&mut connection, "a", "ann", 1).await;
    run(&mut connection, "select headcount.new_lineage()").await;
    join(&mut connection, "a", "bob", 2).await;
    assert_eq!(behind(&mut connection).await, ["a 0 to 1, 0", "a 1 to 2, 1"]);
    let epochs = "select count(distinct epoch) from headcount.webhook_rooms";
    assert_eq!(count(&mut connection, epochs).await, 2);
}

#[tokio::test]
async fn the_log_waits_for_webhooks_but_not_for_ever() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    let retention = "select extract(epoch from headcount.webhook_retention('1 h', '7 d'))::bigint / 60";
    assert_eq!(count(&mut connection, retention).await, 60);
    run(&mut connection, HOOK).await;
    join(&mut connection, "a", "ann", 1).await;
    tick(&mut connection).await;
    assert_eq!(count(&mut connection, retention).await, 60);
    run(&mut connection, "update headcount.webhook_rooms set since = now() - interval '2 h'").await;
    assert_eq!(count(&mut connection, retention).await, 121);
    run(&mut connection, "update headcount.webhook_rooms set since = now() - interval '8 d'").await;
    assert_eq!(count(&mut connection, retention).await, 7 * 24 * 60);
}

#[tokio::test]
async fn who_is_erased_is_erased_from_what_waits_to_be_sent() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, HOOK).await;
    join(&mut connection, "a", "ann", 1).await;
    join(&mut connection, "a", "bob", 2).await;
    let claim = tick(&mut connection).await.unwrap();
    let events = json!([{"n": 1, "user": "ann", "member": {"name": "Ann"}}, {"n": 2, "user": "bob", "member": {"name": "Bob"}},
                        {"n": 3, "user": "ann", "reason": "left"}]);
    let moved = moved(&mut connection, "a", 0, 2).await;
    assert!(make(&mut connection, claim, events, moved).await);
    run(&mut connection, "select headcount.erase_user('ann')").await;
    let waiting: Json<Value> = sqlx::query_scalar("select events from headcount.webhook_batches")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let wanted = json!([{"n": 1, "user": "ann", "member": null}, {"n": 2, "user": "bob", "member": {"name": "Bob"}},
                        {"n": 3, "user": "ann", "reason": "left"}]);
    assert_eq!(waiting.0, wanted);
}

#[tokio::test]
async fn old_news_is_no_news_to_a_new_webhook() {
    let database = support::database().await;
    let (mut connection, mut writer) = (database.connect().await, database.connect().await);
    run(&mut connection, HOOK).await;
    let mut open = writer.begin().await.unwrap();
    sqlx::query("select headcount.join('a', 'ann', $1)").bind(session(1)).execute(&mut *open).await.unwrap();
    run(&mut connection, "select headcount.webhook_delete('hook')").await;
    open.commit().await.unwrap();
    assert_eq!(count(&mut connection, "select count(*) from headcount.webhook_outbox").await, 1);
    run(&mut connection, HOOK).await;
    assert_eq!(behind(&mut connection).await, [""; 0]);
}
