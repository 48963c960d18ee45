//! Lists occupied rooms.

use super::{Store, StoreError};
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
}
