//! The sweep and the trim.

use std::cmp::Ordering;
use std::time::Duration;

use super::{Store, StoreError};

/// Sessions ended in one batch of a sweep. About 50 ms of work; more would hold room locks for longer than a
/// join should wait.
const SWEEP_BATCH: i32 = 1000;

/// Sessions ended a second after an outage, so that a mass expiry does not melt the watchers.
const SWEEP_RECOVERING: i32 = 500;

/// What a batch of a sweep did.
#[derive(Clone, Copy, Debug, Default, sqlx::FromRow)]
pub struct Swept {
    /// Sessions whose lease ran out.
    pub expired: i32,
    /// Members gone, by expiry or by the end of a leave's grace.
    pub departed: i32,
    /// Whether more is waiting.
    pub more: bool,
    /// Whether departures are being spread after an outage.
    pub recovering: bool,
}

/// Which schema is in the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchemaVersion {
    /// Migrations of ours have not run.
    Older,
    /// The one we were built for.
    Ours,
    /// A later version of headcount migrated it: replicas of both serve while one replaces the other.
    Newer,
}

// Also looks at a table of ours, so that a schema that is half there is not taken for a whole one.
const NEWEST: &str =
    "select coalesce(max(m.version), 0) from headcount.migrations m, headcount.sweep_state s where m.success";

impl Store {
    /// One batch. `lease` is the shortest in use.
    pub async fn sweep(&self, interval: Duration, lease: Duration) -> Result<Swept, StoreError> {
        let mut held = self.connection().await?;
        let swept = held
            .ask("select * from headcount.sweep($1, $2, $3, $4)")
            .bind(interval)
            .bind(lease)
            .bind(SWEEP_BATCH)
            .bind(SWEEP_RECOVERING)
            .fetch_one(held.connection())
            .await?;
        held.done().await?;
        Ok(swept)
    }

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

    /// Whether the database answers, and which schema is there.
    pub async fn schema(&self) -> Result<SchemaVersion, StoreError> {
        static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
        let wanted = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
        let mut lease = self.connection().await?;
        let (there,) = lease.ask(NEWEST).fetch_one(lease.connection()).await?;
        lease.done().await?;
        Ok(match i64::cmp(&there, &wanted) {
            Ordering::Less => SchemaVersion::Older,
            Ordering::Equal => SchemaVersion::Ours,
            Ordering::Greater => SchemaVersion::Newer,
        })
    }
}
