//! Questions about the past, one at a time; the model test asks them of random histories.

use sqlx::postgres::PgConnection;

use crate::calls::{count, join, leave, run};
use crate::support;

/// Of three who are in the room `old`, one came before the log begins and stayed; another came before, changed and left.
const OLD: &str = "update headcount.log_state set complete_from = '2026-03-01T00:00Z'; \
     insert into headcount.events (room_id, version, kind, user_id, member, reason, at) values \
         ('old', 11, 'joined', 'cid', '{\"name\": \"Cid\", \"status\": \"online\", \"state\": {\"n\": 1}}', null, '2026-03-01T10:00Z'), \
         ('old', 12, 'updated', 'bob', '{\"name\": \"Bob\", \"status\": \"dnd\", \"state\": {}}', null, '2026-03-01T11:00Z'), \
         ('old', 13, 'updated', 'cid', '{\"name\": \"Cid 2\", \"status\": \"idle\", \"state\": {}}', null, '2026-03-01T12:00Z'), \
         ('old', 14, 'left', 'bob', null, 'left', '2026-03-01T13:00Z'), \
         ('old', 15, 'left', 'cid', null, 'expired', '2026-03-02T14:30Z'); \
     insert into headcount.users (user_id, name) values ('ann', 'Ann'), ('bob', 'Robert'), ('cid', 'Cid 3'); \
     insert into headcount.presence (session_id, user_id, lease) values ('00000000-0000-0000-0000-000000000009', 'ann', '45 s'); \
     insert into headcount.memberships (room_id, user_id, session_id, joined_at, changed_at) values \
         ('old', 'ann', '00000000-0000-0000-0000-000000000009', '2026-02-01T00:00Z', '2026-02-01T00:00Z'); \
     insert into headcount.rooms (room_id, epoch, version, member_count) select 'old', headcount.epoch(), 15, 1";

/// As `user name status exact`.
async fn members(connection: &mut PgConnection, room: &str, at: &str) -> Vec<String> {
    let members = "select concat_ws(' ', user_id, name, coalesce(status, '?'), exact) \
         from headcount.members_at($1, $2::text::timestamptz)";
    sqlx::query_scalar(members).bind(room).bind(at).fetch_all(connection).await.unwrap()
}

async fn lines(connection: &mut PgConnection, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}

#[tokio::test]
async fn who_was_there_is_exact_also_of_those_who_came_before_the_log() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, OLD).await;
    let ann = "ann Ann online t";
    for (at, present) in [
        ("2026-03-01T00:00Z", vec![ann, "bob Bob ? f"]),
        ("2026-03-01T09:59:59.999999Z", vec![ann, "bob Bob ? f"]),
        ("2026-03-01T10:00Z", vec![ann, "bob Bob ? f", "cid Cid online t"]),
        ("2026-03-01T11:00Z", vec![ann, "bob Bob dnd t", "cid Cid online t"]),
        ("2026-03-01T12:59:59Z", vec![ann, "bob Bob dnd t", "cid Cid 2 idle t"]),
        ("2026-03-01T13:00Z", vec![ann, "cid Cid 2 idle t"]),
        ("2026-03-02T14:30Z", vec![ann]),
        ("now", vec![ann]),
    ] {
        assert_eq!(members(&mut connection, "old", at).await, present, "at {at}");
    }
    let bounds = "select concat_ws(' ', version, member_count) from headcount.history_bounds('old', '2026-03-01T10:00Z')";
    assert_eq!(lines(&mut connection, bounds).await, ["11 3"]);
    run(&mut connection, "delete from headcount.events where version = 12").await; // not even that is known of bob
    assert_eq!(members(&mut connection, "old", "2026-03-01T09:00Z").await, [ann, "bob Robert ? f"]);
    assert!(members(&mut connection, "nowhere", "2026-03-01T09:00Z").await.is_empty());
    let pages = "select string_agg(user_id, ' ') from (select user_id from \
         headcount.members_at('old', '2026-03-01T10:00Z', 'ann', 1)) m";
    assert_eq!(lines(&mut connection, pages).await, ["bob"]);
}

#[tokio::test]
async fn what_the_log_does_not_hold_is_not_guessed() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, OLD).await;
    for (question, code) in [
        ("select headcount.members_at('old', '2026-02-28T23:59:59Z')", "HC001"),
        ("select headcount.attendance('old', '2026-02-01', '2026-03-01T00:00Z')", "HC001"),
        ("select headcount.attendance('old', '2026-02-01', '2026-02-28')", "HC001"),
        ("select headcount.peak_occupancy('old', '2026-02-01', '2026-02-28')", "HC001"),
        ("select headcount.occupancy('old', '2026-02-01', '2026-02-28')", "HC001"),
        ("select headcount.members_at('old', now() + interval '1 h')", "22023"),
        ("select headcount.attendance('old', now() + interval '1 h', now() + interval '2 h')", "22023"),
        ("select headcount.attendance('old', '2026-03-02', '2026-03-01')", "22023"),
        ("select headcount.attendance('old', '2026-03-01', '2026-03-02', p_tz => 'Mars/Olympus')", "22023"),
        ("select headcount.occupancy('old', '2026-03-01', '2026-03-02', '0 s')", "22023"),
    ] {
        let error = sqlx::query(question).execute(&mut connection).await.expect_err(question);
        let found = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        assert_eq!(found, code, "{question}: {error}");
    }
}

#[tokio::test]
async fn attendance_is_cut_at_midnight_and_at_the_range() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, OLD).await;
    let of = "select concat_ws(' ', user_id, day, minutes) from headcount.attendance('old', '2026-02-01T00:00Z', '2026-03-02T23:00Z')";
    let all = [
        "ann 2026-03-01 1440.00", // since the log begins
        "ann 2026-03-02 1380.00",
        "bob 2026-03-01 780.00",
        "cid 2026-03-01 840.00",
        "cid 2026-03-02 870.00",
    ];
    assert_eq!(lines(&mut connection, of).await, all);
    let of = "select concat_ws(' ', user_id, day, minutes) \
         from headcount.attendance('old', '2026-03-01T12:30Z', '2026-03-02T12:00Z', 'cid', 'America/New_York')";
    assert_eq!(lines(&mut connection, of).await, ["cid 2026-03-01 990.00", "cid 2026-03-02 420.00"]);
    let spring = "select concat_ws(' ', user_id, day, minutes) \
         from headcount.attendance('old', '2026-03-27T23:00Z', '2026-03-29T22:00Z', p_tz => 'Europe/Berlin')";
    assert_eq!(
        lines(&mut connection, spring).await,
        ["ann 2026-03-28 1440.00", "ann 2026-03-29 1380.00"],
        "a day with 23 hours"
    );
}

#[tokio::test]
async fn occupancy_counts_who_was_there_already() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, OLD).await;
    let peak = "select count || ' ' || to_char(at at time zone 'UTC', 'DD HH24:MI') \
         from headcount.peak_occupancy('old', '2026-02-01', '2026-03-03')";
    assert_eq!(lines(&mut connection, peak).await, ["3 01 10:00"]);
    let later = "select count || ' ' || to_char(at at time zone 'UTC', 'DD HH24:MI') \
         from headcount.peak_occupancy('old', '2026-03-01T12:30Z', '2026-03-03')";
    assert_eq!(lines(&mut connection, later).await, ["3 01 12:30"], "from the beginning of the range");
    let buckets = "select string_agg(to_char(at at time zone 'UTC', 'DD HH24') || '=' || count, ' ' order by at) \
         from headcount.occupancy('old', '2026-02-28T18:00Z', '2026-03-03T00:00Z', '6 h')";
    assert_eq!(
        lines(&mut connection, buckets).await,
        ["01 00=2 01 06=3 01 12=3 01 18=2 02 00=2 02 06=2 02 12=2 02 18=1"]
    );
}

#[tokio::test]
async fn the_past_shows_nobody_who_was_invisible_and_keeps_nothing_of_the_erased() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    join(&mut connection, "den", "ann", 1).await;
    run(
        &mut connection,
        "select headcount.join('den', 'eve', '00000000-0000-0000-0000-000000000002', p_name => 'Eve', p_invisible => true); \
         select headcount.join('den', 'bob', '00000000-0000-0000-0000-000000000003', p_name => 'Bob')",
    )
    .await;
    let now: String =
        sqlx::query_scalar("select clock_timestamp()::text").fetch_one(&mut connection).await.unwrap();
    run(&mut connection, "select headcount.erase_user('bob')").await;
    leave(&mut connection, "den", "eve", 2).await;
    assert_eq!(members(&mut connection, "den", &now).await, ["ann ann online t", "bob bob ? f"]);
    let eve = "select (select count(*) from headcount.attendance('den', now() - interval '1 d', now()) where user_id = 'eve') \
         + (select count(*) from headcount.stays where user_id = 'eve') \
         + (select max(count) - 2 from headcount.occupancy('den', now() - interval '1 d', now()))";
    assert_eq!(count(&mut connection, eve).await, 0);
}

#[tokio::test]
async fn views_tell_stays_and_whereabouts() {
    let database = support::database().await;
    let mut connection = database.connect().await;
    run(&mut connection, OLD).await;
    let stays = "select concat_ws(' ', user_id, to_char(joined_at at time zone 'UTC', 'DD HH24'), '-', \
             to_char(left_at at time zone 'UTC', 'DD HH24'), reason) \
         from headcount.stays where room_id = 'old' order by user_id";
    assert_eq!(lines(&mut connection, stays).await, ["bob - 01 13 left", "cid 01 10 - 02 14 expired"]);
    join(&mut connection, "den", "ann", 9).await;
    run(
        &mut connection,
        "select headcount.update('old', 'ann', '00000000-0000-0000-0000-000000000009', 'dnd')",
    )
    .await;
    let whereabouts = "select concat_ws(' ', user_id, online, coalesce(status, '-'), rooms, last_seen > now() - interval '1 min') \
         from headcount.whereabouts order by user_id";
    assert_eq!(
        lines(&mut connection, whereabouts).await,
        ["ann t dnd {den,old} t", "bob f - {}", "cid f - {}"]
    );
    let open = "select count(*) from headcount.stays where user_id = 'ann' and left_at is null";
    assert_eq!(count(&mut connection, open).await, 1);
}
