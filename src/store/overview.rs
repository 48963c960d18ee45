//! The admin overview: queries over all replicas at once, as the database sees them. Each is one statement about the
//! present; nothing is stored or cached for it.

use time::OffsetDateTime;

use super::{Store, StoreError};

/// Totals, and the state of the sweep.
#[derive(Debug, sqlx::FromRow)]
pub struct Totals {
    /// The database's clock.
    pub now: OffsetDateTime,
    /// Occupied rooms.
    pub rooms: i64,
    /// Members of all rooms. A user in two rooms counts twice.
    pub members: i64,
    /// Live sessions.
    pub sessions: i64,
    /// When the last sweep ran, by any replica.
    pub last_sweep_at: OffsetDateTime,
    /// Whether departures are throttled after an outage.
    pub recovering: bool,
}

/// A replica.
#[derive(Debug, sqlx::FromRow)]
pub struct Peer {
    /// Host name and port.
    pub name: String,
    /// Its connections, without the listener's.
    pub connections: i64,
    /// Whether it has a connection that listens.
    pub listening: bool,
    /// When a connection of it was last active.
    pub heard_at: OffsetDateTime,
}

/// A room.
#[derive(Debug, sqlx::FromRow)]
pub struct RoomSize {
    /// The room.
    pub room_id: String,
    /// Its members.
    pub member_count: i32,
}

/// Events within one second.
#[derive(Debug, sqlx::FromRow)]
pub struct EventRate {
    /// Beginning of the second.
    pub at: OffsetDateTime,
    /// Events `joined`.
    pub joined: i64,
    /// Events `updated`.
    pub updated: i64,
    /// Events `left`.
    pub gone: i64,
}

/// A user that was searched for.
#[derive(Debug, sqlx::FromRow)]
pub struct Match {
    /// The user's id.
    pub user_id: String,
    /// Display name.
    pub name: String,
}

const TOTALS: &str = "select clock_timestamp() as now, r.rooms, r.members, p.sessions, s.last_sweep_at, s.recovering \
     from (select count(*) as rooms, coalesce(sum(member_count), 0)::bigint as members \
           from headcount.rooms where member_count > 0) r \
     cross join (select count(*) as sessions from headcount.presence) p \
     cross join headcount.sweep_state s";

// A connection that has run no statement has no state_change yet.
pub(super) const PEERS: &str = "select split_part(application_name, ' ', 2) as name, \
            count(*) filter (where application_name like 'headcount %') as connections, \
            bool_or(application_name like 'headcount-listener %') as listening, \
            max(coalesce(state_change, backend_start)) as heard_at \
     from pg_stat_activity \
     where datname = current_database() and application_name like any (array['headcount %', 'headcount-listener %']) \
     group by 1 order by 1";

const LARGEST_ROOMS: &str = "select room_id, member_count from headcount.rooms where member_count > 0 \
     order by member_count desc, room_id limit $1";

// Whole seconds only, so the current one is left out.
const SECONDS: &str = "select s.at, coalesce(e.joined, 0) as joined, coalesce(e.updated, 0) as updated, coalesce(e.gone, 0) as gone \
     from (select date_trunc('second', clock_timestamp()) as until offset 0) n \
     cross join lateral generate_series(n.until - $1 * interval '1 s', n.until - interval '1 s', '1 s') s (at) \
     left join ( \
         select date_trunc('second', at) as at, count(*) filter (where kind = 'joined') as joined, \
                count(*) filter (where kind = 'updated') as updated, count(*) filter (where kind = 'left') as gone \
         from headcount.events \
         where at >= date_trunc('second', clock_timestamp()) - $1 * interval '1 s' \
         group by 1 \
     ) e on e.at = s.at \
     order by s.at";

// May scan every profile: meant for the search box of the admin page, not for programs.
const SEARCH: &str = "select user_id, name from headcount.users \
     where strpos(lower(name), lower($1)) > 0 or strpos(lower(user_id), lower($1)) > 0 \
     order by user_id = $1 desc, user_id limit $2";

impl Store {
    /// The totals.
    pub async fn totals(&self) -> Result<Totals, StoreError> {
        self.query(TOTALS).row().await
    }

    /// The replicas with a connection to this database.
    pub async fn peers(&self) -> Result<Vec<Peer>, StoreError> {
        self.query(PEERS).rows().await
    }

    /// The fullest rooms.
    pub async fn largest_rooms(&self, limit: i64) -> Result<Vec<RoomSize>, StoreError> {
        self.query(LARGEST_ROOMS).bind(limit).rows().await
    }

    /// Counts of events in each of the last whole seconds.
    pub async fn seconds(&self, seconds: i32) -> Result<Vec<EventRate>, StoreError> {
        self.query(SECONDS).bind(seconds).rows().await
    }

    /// Users whose id or name contains a text. An exact match of the id comes first.
    pub async fn search_users(&self, text: &str, limit: i64) -> Result<Vec<Match>, StoreError> {
        self.query(SEARCH).bind(text).bind(limit).rows().await
    }
}
