//! The trim: bounds the log and what is remembered of sessions that are gone.

use std::time::Duration;

use super::{Store, StoreError};

impl Store {
    /// Bounds what is trimmed row by row; what webhooks have still to tell is kept longer, but no longer than `keep`. Gives whether more is
    /// waiting.
    pub async fn trim(&self, retention: Duration, keep: Duration) -> Result<bool, StoreError> {
        let mut lease = self.connection().await?;
        let trim = lease.ask("select headcount.trim(headcount.webhook_retention($1, $2))");
        let (more,) = trim.bind(retention).bind(keep).fetch_one(lease.connection()).await?;
        lease.done().await?;
        Ok(more)
    }

    /// One step of keeping the log by day. Gives what was done; nothing when nothing was due, or somebody holds the log.
    /// What webhooks have still to tell is kept, as in [`Store::trim`].
    pub async fn rotate_days(
        &self,
        retention: Duration,
        keep: Duration,
    ) -> Result<Option<String>, StoreError> {
        let mut lease = self.connection().await?;
        let turn = lease.ask("select headcount.turn_days(headcount.webhook_retention($1, $2))");
        let (done,) = turn.bind(retention).bind(keep).fetch_one(lease.connection()).await?;
        lease.done().await?;
        Ok(done)
    }
}
