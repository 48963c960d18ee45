//! Lists occupied rooms, and the rooms of a session.

use super::{Store, StoreError, decode};
use crate::domain::id::{RoomId, SessionId, UserId};
use crate::domain::range::KeyRange;

/// One index scan for each range, which reads one page at most.
const OCCUPIED: &str = "select r.room_id, r.member_count \
     from unnest($2::text[], $3::text[]) given (low, high) \
     cross join lateral ( \
         select r.room_id, r.member_count from headcount.rooms r \
         where r.member_count > 0 and r.room_id > $1 and r.room_id >= given.low and r.room_id < given.high \
         order by r.room_id limit $4 \
     ) r \
     order by r.room_id limit $4";

const OF_SESSION: &str =
    "select room_id from headcount.memberships where session_id = $1 and user_id = $2 order by room_id";

impl Store {
    /// A page of the rooms with members, in the order of their keys, after a key, with their counts. Only rooms within
    /// these ranges, which must not overlap.
    pub async fn occupied_rooms(
        &self,
        after: &str,
        ranges: &[KeyRange],
        limit: i64,
    ) -> Result<Vec<(String, i32)>, StoreError> {
        let low: Vec<&str> = ranges.iter().map(|range| range.from.as_str()).collect();
        let high: Vec<&str> = ranges.iter().map(|range| range.until.as_str()).collect();
        self.query(OCCUPIED).bind(after).bind(low).bind(high).bind(limit).rows().await
    }

    /// The rooms of a user's session, in the order of their keys. None if the session is another user's.
    pub async fn rooms_of_session(
        &self,
        session: SessionId,
        user: &UserId,
    ) -> Result<Vec<RoomId>, StoreError> {
        let rows: Vec<(String,)> = self.query(OF_SESSION).bind(session.0).bind(user.as_str()).rows().await?;
        rows.iter().map(|(room,)| decode::room(room)).collect()
    }
}
