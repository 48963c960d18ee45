//! Reads and writes the settings of rooms, which are kept by pattern.

use std::time::Duration;

use super::{Store, StoreError};
use crate::domain::room_settings::{Patterns, RoomSettings};

const READ: &str = "select s.pattern, (extract(epoch from s.lease) * 1000)::bigint, \
            (extract(epoch from s.lease_hidden) * 1000)::bigint, s.coalesce_ms, s.list_max, s.members_max \
     from headcount.room_settings s order by s.pattern";

const PUT: &str = "select headcount.put_room_settings($1, $2, $3, $4, $5, $6)";

const REMOVE: &str = "select headcount.remove_room_settings($1)";

type PatternRow = (String, Option<i64>, Option<i64>, Option<i32>, Option<i32>, Option<i32>);

impl Store {
    /// All settings, in the order of their patterns.
    pub async fn room_settings_list(&self) -> Result<Vec<(String, RoomSettings)>, StoreError> {
        let rows: Vec<PatternRow> = self.query(READ).rows().await?;
        rows.into_iter().map(entry).collect()
    }

    /// All settings, as a table in which rooms are looked up.
    pub async fn room_settings(&self) -> Result<Patterns, StoreError> {
        self.room_settings_list().await.map(Patterns::new)
    }

    /// Upserts the settings of a pattern. Returns false when the limit of patterns is reached.
    pub async fn put_room_settings(
        &self,
        pattern: &str,
        settings: &RoomSettings,
    ) -> Result<bool, StoreError> {
        let spacing = settings.spacing.map(|spacing| i32::try_from(spacing.as_millis()).unwrap_or(i32::MAX));
        let list_max = settings.list_max.map(|max| i32::try_from(max).unwrap_or(i32::MAX));
        let members_max = settings.members_max.map(|max| i32::try_from(max).unwrap_or(i32::MAX));
        self.query(PUT)
            .bind(pattern)
            .bind(settings.lease)
            .bind(settings.lease_hidden)
            .bind(spacing)
            .bind(list_max)
            .bind(members_max)
            .value()
            .await
    }

    /// Removes the settings of a pattern. Idempotent; returns whether there were any.
    pub async fn remove_room_settings(&self, pattern: &str) -> Result<bool, StoreError> {
        self.query(REMOVE).bind(pattern).value().await
    }
}

fn entry(
    (pattern, lease, lease_hidden, spacing, list_max, members_max): PatternRow,
) -> Result<(String, RoomSettings), StoreError> {
    let millis = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let settings = RoomSettings {
        lease: lease.map(millis),
        lease_hidden: lease_hidden.map(millis),
        spacing: spacing.map(|ms| millis(ms.into())),
        list_max: list_max.map(usize::try_from).transpose().map_err(StoreError::decoding)?,
        members_max: members_max.map(i32::unsigned_abs),
    };
    Ok((pattern, settings))
}
