//! Reading which rooms are occupied.

use super::{Store, StoreError};

const OCCUPIED: &str = "select room_id, member_count from headcount.rooms \
     where member_count > 0 and room_id > $1 and starts_with(room_id, $2) and room_id >= $2 \
     order by room_id limit $3";

impl Store {
    /// Rooms with members whose key begins with `prefix`, after a key, in the order of keys, with their counts.
    pub async fn occupied_rooms(
        &self,
        after: &str,
        prefix: &str,
        limit: i64,
    ) -> Result<Vec<(String, i32)>, StoreError> {
        let mut lease = self.connection().await?;
        let rows = sqlx::query_as(OCCUPIED)
            .bind(after)
            .bind(prefix)
            .bind(limit)
            .fetch_all(lease.connection())
            .await?;
        lease.done();
        Ok(rows)
    }
}
