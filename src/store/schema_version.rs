//! Which schema is in the database, against the one this build needs.

use std::cmp::Ordering;

use super::{Store, StoreError};

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
    /// Whether the database answers, and which schema is there.
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
