//! The laws that hold for every database of headcount at every moment, each a query for what breaks it.
//!
//! They ask for the whole log: a database that was trimmed breaks the first two.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

const LAWS: [(&str, &str); 9] = [
    (
        "the versions of a room are 1..n",
        "select room_id, version, n from (
             select e.*, row_number() over (partition by room_id order by version) as n from headcount.events e
         ) e where version <> n",
    ),
    (
        "a room is at the version of its last event",
        "select r.room_id, r.version, count(e.version) from headcount.rooms r
         left join headcount.events e on e.room_id = r.room_id
         group by r.room_id
         having r.version <> count(e.version)",
    ),
    (
        "a user's events in a room read (joined updated* left)*",
        "select room_id, version, user_id, kind, before from (
             select e.*, lag(kind, 1, 'left') over (partition by room_id, user_id order by version) as before
             from headcount.events e
         ) e where (kind = 'joined') <> (before = 'left')",
    ),
    (
        "an updated changes something",
        "select room_id, version, user_id from (
             select e.*, lag(member) over (partition by room_id, user_id order by version) as before
             from headcount.events e
         ) e
         where kind = 'updated' and before - '{sessions,joined_at}'::text[] = member - '{sessions,joined_at}'::text[]",
    ),
    (
        "the log folded is the roster",
        "select room_id, user_id, e.member as log, m.member as roster
         from (
             select distinct on (room_id, user_id) room_id, user_id, kind, member
             from headcount.events
             order by room_id, user_id, version desc
         ) e
         full join (select r.room_id, r.user_id, headcount.member(r) as member from headcount.rosters r) m
             using (room_id, user_id)
         where (e.kind = 'left' or e.kind is null) <> (m.member is null)
            or e.member - '{sessions,joined_at}'::text[] is distinct from m.member - '{sessions,joined_at}'::text[]
               and e.kind <> 'left'",
    ),
    (
        "a room counts the members of its roster",
        "select r.room_id, r.member_count, count(m.user_id) from headcount.rooms r
         left join headcount.rosters m on m.room_id = r.room_id
         group by r.room_id
         having r.member_count <> count(m.user_id)",
    ),
    (
        "a membership is in a room, of a user, through a session of theirs",
        "select m.room_id, m.user_id, m.session_id, p.user_id as owner from headcount.memberships m
         left join headcount.rooms r on r.room_id = m.room_id
         left join headcount.users u on u.user_id = m.user_id
         left join headcount.presence p on p.session_id = m.session_id
         where r.room_id is null or u.user_id is null or p.user_id is distinct from m.user_id",
    ),
    (
        "a member joined once: in all their sessions that others see, and in the log until they leave",
        "select room_id, user_id, count(distinct joined_at) from headcount.memberships
         where not invisible
         group by room_id, user_id
         having count(distinct joined_at) > 1
         union all
         select room_id, user_id, version from (
             select e.*, lag(member) over (partition by room_id, user_id order by version) as before
             from headcount.events e
         ) e
         where kind = 'updated' and before -> 'joined_at' <> member -> 'joined_at'",
    ),
    (
        "a session is in some room",
        "select p.session_id, p.user_id from headcount.presence p
         where not exists (select from headcount.memberships m where m.session_id = p.session_id)",
    ),
];

/// Panics with what breaks a law, as of one moment.
pub async fn assert_lawful(connection: &mut PgConnection) {
    let mut moment = connection.begin_with("begin isolation level repeatable read read only").await.unwrap();
    for (law, breaches) in LAWS {
        let found =
            sqlx::query(sqlx::AssertSqlSafe(format!("select row_to_json(b)::text from ({breaches}) b")))
                .fetch_all(&mut *moment)
                .await
                .unwrap();
        let found: Vec<String> = found.iter().take(10).map(|row| row.get(0)).collect();
        assert!(found.is_empty(), "{law}, but not:\n{}", found.join("\n"));
    }
    moment.rollback().await.unwrap();
}
