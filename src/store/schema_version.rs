//! Health check of the schema: its version in the database, compared with the one that this build needs.

use std::cmp::Ordering;

use super::{Store, StoreError};

/// The schema in the database, compared with this build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchemaVersion {
    /// Migrations of this build have not run yet.
    Older,
    /// The version of this build.
    Ours,
    /// A later build migrated it. Replicas of both builds serve during a rolling upgrade.
    Newer,
}

// Also reads another table, so that an incomplete schema does not pass for a whole one.
const NEWEST: &str =
    "select coalesce(max(m.version), 0) from headcount.migrations m, headcount.sweep_state s where m.success";

impl Store {
    /// The health check: whether the database answers, and the version of its schema.
    pub async fn schema(&self) -> Result<SchemaVersion, StoreError> {
        static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
        let wanted = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
        let (there,) = self.query(NEWEST).row().await?;
        Ok(match i64::cmp(&there, &wanted) {
            Ordering::Less => SchemaVersion::Older,
            Ordering::Equal => SchemaVersion::Ours,
            Ordering::Greater => SchemaVersion::Newer,
        })
    }
}
