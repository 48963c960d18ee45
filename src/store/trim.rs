//! The trim: bounds the log and what is remembered of sessions that are gone.

use std::time::Duration;

use super::{Store, StoreError};

impl Store {
    /// Bounds what is trimmed row by row; what webhooks have still to tell is kept longer, but no longer than `keep`. Gives whether more is
    /// waiting.
    pub async fn trim(&self, retention: Duration, keep: Duration) -> Result<bool, StoreError> {
        self.query("select headcount.trim(headcount.webhook_retention($1, $2)) from headcount.rules")
            .bind(retention)
            .bind(keep)
            .value()
            .await
    }

    /// One step of keeping the log by day. Gives what was done; nothing when nothing was due, or somebody holds the log.
    /// What webhooks have still to tell is kept, as in [`Store::trim`].
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
