//! Reads what the database holds when all is at rest, in one transaction.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::recording::{Cursor, EventKind, LoggedEvent, Membership, Reason, RosterAtRest};

const LOG: &str = "select room_id, version, kind, user_id, reason, (member -> 'state')::text, \
                   (extract(epoch from at) * 1000000)::bigint from headcount.events";

const ROSTERS: &str = "select r.room_id, headcount.lineage() || substr(r.epoch, 9), r.version, \
            array(select m.user_id::text from headcount.rosters m where m.room_id = r.room_id order by 1) \
     from headcount.rooms r order by r.room_id";

/// Sessions that nobody beats for any more, and leaves whose grace is not over.
pub const UNSETTLED: &str = "select (select count(*) from headcount.memberships where leaving_at is not null) + \
     (select count(*) from headcount.presence where last_seen < clock_timestamp() - interval '1800 ms')";

/// Everything at one moment.
pub struct AtRest {
    pub log: Vec<LoggedEvent>,
    pub presence: Vec<Membership>,
    pub rosters: Vec<RosterAtRest>,
}

type Event = (String, i64, String, String, Option<String>, Option<String>, i64);

pub async fn read(connection: &mut PgConnection) -> AtRest {
    let mut moment = connection.begin_with("begin isolation level repeatable read read only").await.unwrap();
    let log: Vec<Event> = sqlx::query_as(LOG).fetch_all(&mut *moment).await.unwrap();
    let memberships = "select room_id, user_id, session_id::text from headcount.memberships";
    let presence: Vec<(String, String, String)> =
        sqlx::query_as(memberships).fetch_all(&mut *moment).await.unwrap();
    let rosters: Vec<(String, String, i64, Vec<String>)> =
        sqlx::query_as(ROSTERS).fetch_all(&mut *moment).await.unwrap();
    moment.rollback().await.unwrap();
    let presence = presence.into_iter().map(|(room, user, session)| Membership { room, user, session });
    let rosters = rosters.into_iter().map(|(room, epoch, version, members)| {
        let cursor = Cursor { epoch, version: u64::try_from(version).unwrap() };
        RosterAtRest { room, cursor, members }
    });
    AtRest {
        log: log.into_iter().map(event).collect(),
        presence: presence.collect(),
        rosters: rosters.collect(),
    }
}

fn event((room, version, kind, user, reason, state, at_us): Event) -> LoggedEvent {
    let kind = match kind.as_str() {
        "joined" => EventKind::Joined,
        "updated" => EventKind::Updated,
        _ => EventKind::Left,
    };
    let reason = reason.map(|reason| match reason.as_str() {
        "expired" => Reason::Expired,
        "kicked" => Reason::Kicked,
        _ => Reason::Left,
    });
    let version = u64::try_from(version).unwrap();
    LoggedEvent { room, version, kind, user, reason, state, at_us }
}

/// Where every room is.
pub async fn heads(connection: &mut PgConnection) -> Vec<(String, Cursor)> {
    let query = "select room_id, headcount.lineage() || substr(epoch, 9), version from headcount.rooms";
    let rows: Vec<(String, String, i64)> = sqlx::query_as(query).fetch_all(connection).await.unwrap();
    let head = |(room, epoch, version): (String, String, i64)| {
        (room, Cursor { epoch, version: u64::try_from(version).unwrap() })
    };
    rows.into_iter().map(head).collect()
}
