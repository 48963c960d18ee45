//! Figures about the tables and the sweep, for metrics. Cheap to read: no query here scans a whole table.

use super::{Store, StoreError};
use crate::domain::cursor::Cursor;
use crate::domain::id::RoomId;

/// State of the sweep.
#[derive(Debug, sqlx::FromRow)]
pub struct SweepGauges {
    /// Seconds since the last sweep by any replica, by the database's clock.
    pub age: f64,
    /// Whether the outage rule is in force: sweeps had stopped, so sessions do not expire, or departures are throttled.
    pub outage_rule: bool,
}

/// Statistics of a table, since Postgres last reset them.
#[derive(Debug, sqlx::FromRow)]
pub struct TableGauges {
    /// Name of the table; partitions are summed under their parent.
    pub name: String,
    /// Rows updated.
    pub updates: f64,
    /// Of those, HOT updates, which touched no index.
    pub hot_updates: f64,
    /// Estimated live rows.
    pub rows: f64,
    /// Estimated dead rows.
    pub dead_rows: f64,
    /// Bytes on disk, including indexes.
    pub bytes: f64,
}

const SWEEP: &str = "select extract(epoch from clock_timestamp() - s.last_sweep_at)::float8 as age, \
            s.recovering or s.leases_from > clock_timestamp() - $1 as outage_rule \
     from headcount.sweep_state s";

// The casts are needed because a sum of bigints is a numeric.
const TABLES: &str = "select coalesce(root.relname, s.relname)::text as name, \
            sum(s.n_tup_upd)::float8 as updates, sum(s.n_tup_hot_upd)::float8 as hot_updates, \
            sum(s.n_live_tup)::float8 as rows, sum(s.n_dead_tup)::float8 as dead_rows, \
            sum(pg_total_relation_size(s.relid))::float8 as bytes \
     from pg_stat_user_tables s \
     left join pg_class root on root.oid = pg_partition_root(s.relid) \
     where s.schemaname = 'headcount' \
     group by 1";

// Rooms of another epoch are left out: versions of different epochs cannot be subtracted. The hub notices the new epoch
// at its next read.
const BEHIND: &str = "select coalesce(max(r.version - w.version), 0) \
     from unnest($1::text[], $2::text[], $3::bigint[]) w (room_id, epoch, version) \
     join headcount.rooms r on r.room_id = any (array[w.room_id]) \
     where w.epoch = headcount.epoch_in(headcount.lineage(), r.epoch)";

impl Store {
    /// State of the sweep. `lease` is the shortest in use.
    pub async fn sweep_gauges(&self, lease: std::time::Duration) -> Result<SweepGauges, StoreError> {
        self.query(SWEEP).bind(lease).row().await
    }

    /// Statistics of the tables.
    pub async fn table_gauges(&self) -> Result<Vec<TableGauges>, StoreError> {
        self.query(TABLES).rows().await
    }

    /// The largest lag of any of these positions: how many events its room is ahead of it.
    pub async fn behind(&self, positions: &[(RoomId, Cursor)]) -> Result<i64, StoreError> {
        let rooms: Vec<&str> = positions.iter().map(|(room, _)| room.as_str()).collect();
        let epochs: Vec<&str> = positions.iter().map(|(_, cursor)| cursor.epoch.as_str()).collect();
        let versions: Vec<i64> = positions.iter().map(|(_, cursor)| cursor.version).collect();
        self.query(BEHIND).bind(rooms).bind(epochs).bind(versions).value().await
    }
}
