//! What the database knows of itself and of the sweep, for metrics. Cheap to read: nothing here looks at every row.

use super::{Store, StoreError};
use crate::domain::cursor::Cursor;
use crate::domain::id::RoomId;

/// How the sweep does.
#[derive(Debug, sqlx::FromRow)]
pub struct SweepGauges {
    /// Seconds since the last sweep by any replica, by the database's clock.
    pub age: f64,
    /// Whether, because sweeps had stopped, nobody expires now or departures are spread.
    pub outage_rule: bool,
}

/// How a table does, since the statistics were reset.
#[derive(Debug, sqlx::FromRow)]
pub struct TableGauges {
    /// Its name; of a partition, that of the whole.
    pub name: String,
    /// Rows updated.
    pub updates: f64,
    /// Of those, HOT.
    pub hot_updates: f64,
    /// Live rows, as estimated.
    pub rows: f64,
    /// Dead rows, as estimated.
    pub dead_rows: f64,
    /// Bytes, with indexes.
    pub bytes: f64,
}

const SWEEP: &str = "select extract(epoch from clock_timestamp() - s.last_sweep_at)::float8 as age, \
            s.recovering or s.leases_from > clock_timestamp() - $1 as outage_rule \
     from headcount.sweep_state s";

// Sums of bigints are numerics.
const TABLES: &str = "select coalesce(root.relname, s.relname)::text as name, \
            sum(s.n_tup_upd)::float8 as updates, sum(s.n_tup_hot_upd)::float8 as hot_updates, \
            sum(s.n_live_tup)::float8 as rows, sum(s.n_dead_tup)::float8 as dead_rows, \
            sum(pg_total_relation_size(s.relid))::float8 as bytes \
     from pg_stat_user_tables s \
     left join pg_class root on root.oid = pg_partition_root(s.relid) \
     where s.schemaname = 'headcount' \
     group by 1";

// Another epoch is another history: that it is not the one the hub has shows at the next read, not here.
const BEHIND: &str = "select coalesce(max(r.version - w.version), 0) \
     from unnest($1::text[], $2::text[], $3::bigint[]) w (room_id, epoch, version) \
     join headcount.rooms r on r.room_id = any (array[w.room_id]) \
     where w.epoch = headcount.epoch_in(headcount.lineage(), r.epoch)";

impl Store {
    /// How the sweep does. `lease` is the shortest in use.
    pub async fn sweep_gauges(&self, lease: std::time::Duration) -> Result<SweepGauges, StoreError> {
        self.query(SWEEP).bind(lease).row().await
    }

    /// How the tables do.
    pub async fn table_gauges(&self) -> Result<Vec<TableGauges>, StoreError> {
        self.query(TABLES).rows().await
    }

    /// How many events after these positions there are in the log, the most of any room.
    pub async fn behind(&self, positions: &[(RoomId, Cursor)]) -> Result<i64, StoreError> {
        let rooms: Vec<&str> = positions.iter().map(|(room, _)| room.as_str()).collect();
        let epochs: Vec<&str> = positions.iter().map(|(_, cursor)| cursor.epoch.as_str()).collect();
        let versions: Vec<i64> = positions.iter().map(|(_, cursor)| cursor.version).collect();
        self.query(BEHIND).bind(rooms).bind(epochs).bind(versions).value().await
    }
}
