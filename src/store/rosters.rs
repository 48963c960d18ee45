//! Reads rosters, and finds the rooms of users.

use std::collections::HashMap;

use sqlx::types::Json;
use time::OffsetDateTime;

use super::decode::{self, counted};
use super::{Store, StoreError};
use crate::domain::cursor::Cursor;
use crate::domain::id::{RoomId, UserId};
use crate::domain::member::{Member, Viewer};
use crate::domain::range::KeyRange;
use crate::domain::roster::Roster;

/// A page of a roster.
#[derive(Debug)]
pub struct RosterSlice {
    /// The room's position at this snapshot.
    pub cursor: Cursor,
    /// All members of the room that the viewer may see.
    pub count: i64,
    /// How many of them are hidden from others.
    pub unseen: i64,
    /// The members on this page, by id.
    pub members: Vec<Member>,
}

const PAGE: &str = "select coalesce(headcount.epoch_in(headcount.lineage(), r.epoch), headcount.epoch()), \
            coalesce(r.version, 0), coalesce(r.member_count, 0)::bigint, x.unseen, m.member \
     from (select $1 as room_id) w \
     left join headcount.rooms r on r.room_id = w.room_id \
     cross join lateral ( \
         select count(*) as unseen from headcount.unseen u \
         where u.room_id = w.room_id and ($4 or u.user_id = $5) \
     ) x \
     left join lateral ( \
         select seen.member from ( \
             (select m.user_id, headcount.member(m) as member from headcount.rosters m \
              where m.room_id = w.room_id and m.user_id > $2 \
              order by m.user_id limit $3) \
             union all \
             (select u.user_id, headcount.unseen_member(u) from headcount.unseen u \
              where u.room_id = w.room_id and u.user_id > $2 and ($4 or u.user_id = $5) \
              order by u.user_id limit $3) \
         ) seen \
         order by seen.user_id limit $3 \
     ) m on true";

const WHOLE: &str = "select w.n, coalesce(headcount.epoch_in(l.lineage, r.epoch), l.epoch), coalesce(r.version, 0), m.member::text \
     from unnest($1::text[]) with ordinality w (room_id, n) \
     cross join (select headcount.lineage() as lineage, headcount.epoch() as epoch offset 0) l \
     left join headcount.rooms r on r.room_id = w.room_id \
     left join lateral ( \
         select headcount.member(m) as member from headcount.rosters m where m.room_id = w.room_id offset 0 \
     ) m on true";

/// Epoch, version, number of members visible to all, number visible only to this viewer, and one member.
type PageRow = (String, i64, i64, i64, Option<Json<Member>>);

/// A room's position and members.
pub type WholeRoster = Result<(Cursor, Roster), StoreError>;

/// Place of the room in the list, epoch, version, and one member as JSON.
type RosterRow = (i64, String, i64, Option<String>);

fn whole(rows: &[RosterRow]) -> WholeRoster {
    let (_, epoch, version, _) = rows.first().ok_or(StoreError::Unavailable)?;
    let cursor = Cursor { epoch: decode::epoch(epoch)?, version: *version };
    let members = rows.iter().filter_map(|row| row.3.as_deref()).map(decode::member);
    Ok((cursor, Roster::new(members.collect::<Result<Vec<_>, _>>()?)))
}

impl Store {
    /// A page of a room's members in the order of user ids, after an id. Cursor, count and members come from one
    /// snapshot.
    pub async fn roster_page(
        &self,
        room: &RoomId,
        after: &str,
        limit: i64,
        viewer: &Viewer,
    ) -> Result<RosterSlice, StoreError> {
        let rows: Vec<PageRow> = self
            .query(PAGE)
            .bind(room.as_str())
            .bind(after)
            .bind(limit)
            .bind(viewer.is_server())
            .bind(viewer.user())
            .rows()
            .await?;
        let (epoch, version, visible, unseen, _) = rows.first().ok_or(StoreError::Unavailable)?;
        let cursor = Cursor { epoch: decode::epoch(epoch)?, version: *version };
        let (count, unseen) = (visible + unseen, *unseen);
        let members = rows.into_iter().filter_map(|row| row.4).map(|Json(member)| member).collect();
        Ok(RosterSlice { cursor, count, unseen, members })
    }

    /// Snapshots of whole rosters, each with its position, in the order of `rooms`. A member that cannot be decoded fails
    /// the roster of its room, and no others.
    pub async fn rosters(&self, rooms: &[RoomId]) -> Result<Vec<WholeRoster>, StoreError> {
        let names: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
        let rows: Vec<RosterRow> = self.query(WHOLE).bind(names).rows().await?;
        let mut found: HashMap<i64, Vec<RosterRow>> = HashMap::with_capacity(rooms.len());
        for row in rows {
            found.entry(row.0).or_default().push(row);
        }
        let of =
            |n| found.remove(&n).ok_or(StoreError::Unavailable).map(|rows| counted("feed", whole(&rows)));
        (1i64..).take(rooms.len()).map(of).collect()
    }

    /// The rooms in which users are, in the order of `users`: an entry for each room of a user, or one without a
    /// room. The number of an entry is the user's place in `users`, counted from 1. Of more than `bounds.places_max` entries
    /// the last are left out.
    pub async fn whereabouts(
        &self,
        users: &[UserId],
        viewer: &Viewer,
        bounds: &Bounds,
    ) -> Result<Vec<(usize, Whereabouts)>, StoreError> {
        let ids: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let low: Vec<&str> = bounds.rooms.iter().map(|range| range.from.as_str()).collect();
        let high: Vec<&str> = bounds.rooms.iter().map(|range| range.until.as_str()).collect();
        let rows: Vec<Whereabouts> = self
            .query(WHEREABOUTS)
            .bind(ids)
            .bind(viewer.is_server())
            .bind(viewer.user())
            .bind(low)
            .bind(high)
            .bind(bounds.rooms_max)
            .bind(bounds.places_max)
            .rows()
            .await?;
        Ok(rows.into_iter().map(|row| (decode::index(row.n) + 1, row)).collect())
    }
}

/// What is looked up of users at most.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Only rooms in these ranges, which must not overlap; the viewer's own anywhere.
    pub rooms: Vec<KeyRange>,
    /// Rooms of a user: the first by key.
    pub rooms_max: i64,
    /// Entries of all users together.
    pub places_max: i64,
}

impl Bounds {
    /// All rooms of all users.
    pub fn none() -> Self {
        Self { rooms: vec![KeyRange::beginning_with("")], rooms_max: i64::MAX, places_max: i64::MAX }
    }
}

// The inner join can only be a nested loop, user by user, so its limit ends it early.
const WHEREABOUTS: &str = "select w.n, w.user_id, m.last_seen as online_last_seen, u.last_seen_at, u.show_last_seen, \
            m.room_id, m.status, m.said, m.invisible, coalesce(m.sessions, 0) as sessions \
     from ( \
         select given.n, given.user_id, s.room_id \
         from unnest($1::text[]) with ordinality given (user_id, n) \
         left join lateral ( \
             select distinct s.room_id from headcount.memberships s \
             where s.user_id = given.user_id and (s.user_id = $3 or exists ( \
                 select from unnest($4::text[], $5::text[]) r (low, high) \
                 where s.room_id >= r.low and s.room_id < r.high \
             )) \
             order by s.room_id limit $6 \
         ) s on true \
         limit $7 \
     ) w \
     left join headcount.users u on u.user_id = w.user_id \
     left join lateral ( \
         select v.room_id, v.status, v.said, v.invisible, v.last_seen, v.sessions from headcount.sightings v \
         where v.room_id = w.room_id and v.user_id = w.user_id \
           and (not v.invisible or $2 or v.user_id = $3) \
         order by v.invisible limit 1 \
     ) m on true \
     order by w.n, m.room_id";

/// A user in one room, or in none.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Whereabouts {
    /// Place of the user in the list that was asked for, from 1.
    pub n: i64,
    /// The user's id.
    pub user_id: String,
    /// The newest heartbeat of a live session in the room, if there is one.
    pub online_last_seen: Option<OffsetDateTime>,
    /// The last sign of life before the user left a room in which others saw them.
    pub last_seen_at: Option<OffsetDateTime>,
    /// How much of that others may be told, as stored; none for an unknown user.
    pub show_last_seen: Option<String>,
    /// The room.
    pub room_id: Option<String>,
    /// The member's status in the room.
    pub status: Option<String>,
    /// Whether a session named it.
    pub said: Option<bool>,
    /// Whether the member is hidden from others in the room.
    pub invisible: Option<bool>,
    /// Sessions that were looked at for it.
    pub sessions: i32,
}
