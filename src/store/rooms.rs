//! Reading which rooms are occupied.

use super::{Store, StoreError};
use crate::domain::range::KeyRange;

/// One look into the index for each range, and no more than a page of each.
const OCCUPIED: &str = "select r.room_id, r.member_count \
     from unnest($2::text[], $3::text[]) given (low, high) \
     cross join lateral ( \
         select r.room_id, r.member_count from headcount.rooms r \
         where r.member_count > 0 and r.room_id > $1 and r.room_id >= given.low and r.room_id < given.high \
         order by r.room_id limit $4 \
     ) r \
     order by r.room_id limit $4";

impl Store {
    /// Rooms with members within these ranges, which do not overlap, after a key, in the order of keys, with their
    /// counts.
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
