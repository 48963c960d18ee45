//! The short way of newcomers: with it and without it the same comes of a batch.

use serde_json::{Value, json};
use sqlx::types::Json;

use crate::calls::{apply, command, run, with};
use crate::support;
use crate::support::law::assert_lawful;

/// What is there afterwards, but for times, and for the order in which users of one wave got their versions.
const OUTCOME: &str = "select jsonb_build_object(
    'rosters', (select jsonb_agg(to_jsonb(r) - '{joined_at,last_seen}'::text[] order by r.room_id, r.user_id)
                from headcount.rosters r),
    'unseen', (select jsonb_agg(to_jsonb(r) - '{joined_at,last_seen}'::text[] order by r.room_id, r.user_id)
               from headcount.unseen r),
    'rooms', (select jsonb_agg(jsonb_build_array(r.room_id, r.version, r.member_count) order by r.room_id)
              from headcount.rooms r),
    'log', (select jsonb_agg(jsonb_build_array(e.room_id, e.user_id, e.kind, e.member - 'joined_at', e.reason)
                order by e.room_id, e.user_id, e.version)
            from headcount.events e),
    'memberships', (select jsonb_agg(to_jsonb(m) - '{joined_at,changed_at}'::text[] order by m.room_id, m.session_id)
                    from headcount.memberships m),
    'sessions', (select jsonb_agg(to_jsonb(p) - '{last_active,last_seen}'::text[] order by p.session_id)
                 from headcount.presence p),
    'users', (select jsonb_agg(jsonb_build_array(u.user_id, u.name, u.avatar_url) order by u.user_id)
              from headcount.users u))";

fn before() -> Vec<Value> {
    vec![
        command("join", "a", "ann", 1),
        with(command("join", "a", "dan", 9), "seq", 3),
        with(command("join", "d", "ann", 20), "invisible", true),
    ]
}

fn batch() -> Vec<Value> {
    vec![
        command("join", "a", "bob", 2),
        command("join", "a", "bob", 3),
        command("join", "b", "bob", 2),
        command("join", "a", "eve", 2),
        command("join", "a", "ann", 4),
        command("join", "d", "ann", 21),
        with(command("join", "a", "fay", 5), "invisible", true),
        command("join", "a", "fay", 8),
        with(command("join", "a", "gil", 6), "visible", false),
        with(with(command("join", "c", "hal", 7), "state", json!({"x": [1]})), "status", "dnd"),
        command("leave", "c", "hal", 7),
        with(command("join", "b", "hal", 11), "seq", 7),
        with(command("join", "a", "dan", 9), "seq", 4),
        with(command("join", "b", "dan", 9), "seq", 4),
        with(
            with(command("join", "c", "ivy", 10), "name", "Ivy \"the\" first"),
            "avatar_url",
            "https://a.test/i",
        ),
        with(command("update", "a", "ann", 1), "state", json!({"y": 2})),
        with(command("join", "c", "joe", 12), "status", "idle"),
        with(command("join", "b", "kim", 13), "visible", false),
        with(command("join", "c", "kim", 13), "visible", true),
    ]
}

async fn outcome(short: bool) -> (Vec<String>, Value) {
    let database = support::database().await;
    let mut connection = database.connect().await;
    if !short {
        run(
            &mut connection,
            "create or replace function headcount.may_admit() returns boolean language sql as 'select false'",
        )
        .await;
    }
    apply(&mut connection, before(), true).await.unwrap();
    apply(&mut connection, vec![with(command("leave", "a", "dan", 9), "seq", 5)], true).await.unwrap();
    let outcomes = apply(&mut connection, batch(), true).await.unwrap();
    assert_lawful(&mut connection).await;
    let Json(there) = sqlx::query_scalar(OUTCOME).fetch_one(&mut connection).await.unwrap();
    (outcomes, there)
}

#[tokio::test]
async fn a_batch_comes_to_the_same_by_the_short_way_of_newcomers() {
    let ((answers, there), (answers_without, there_without)) = (outcome(true).await, outcome(false).await);
    assert_eq!(answers, answers_without);
    assert_same(&there, &there_without);
}

/// By part, so that a difference can be read.
fn assert_same(left: &Value, right: &Value) {
    for (part, value) in left.as_object().unwrap() {
        assert_eq!(value, &right[part], "{part}");
    }
}
