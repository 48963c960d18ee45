//! The trim: bounds the log, and the rows kept about sessions that are gone.

use std::time::Duration;

use super::{Store, StoreError};

impl Store {
    /// Deletes one batch of what is trimmed row by row. Events that webhooks have still to send are kept for longer,
    /// up to `keep`. Returns whether there is more to trim.
    pub async fn trim(&self, retention: Duration, keep: Duration) -> Result<bool, StoreError> {
        self.query("select headcount.trim(headcount.webhook_retention($1, $2)) from headcount.rules")
            .bind(retention)
            .bind(keep)
            .value()
            .await
    }

    /// One step of rotating the daily partitions of the log. Returns a description of it; none when no step was due
    /// or the log was locked. Events that webhooks have still to send are kept, as in [`Store::trim`].
    pub async fn rotate_days(
        &self,
        retention: Duration,
        keep: Duration,
    ) -> Result<Option<String>, StoreError> {
        self.query("select headcount.turn_days(headcount.webhook_retention($1, $2)) from headcount.rules")
            .bind(retention)
            .bind(keep)
            .value()
            .await
    }
}
