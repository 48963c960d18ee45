//! Heartbeats: one update of `presence` for a batch of sessions.

use std::time::Duration;

use uuid::Uuid;

use super::commands::Leased;
use super::{Store, StoreError};
use crate::domain::id::{SessionId, UserId};
use crate::domain::lease::Pace;

/// A client's report that a session is still alive.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The session.
    pub session: SessionId,
    /// The user that must own the session; none under the server key, which may renew any.
    pub user: Option<UserId>,
    /// Whether the page is visible; none keeps the last value.
    pub visible: Option<bool>,
    /// Whether the user did something since the last heartbeat.
    pub active: bool,
    /// Sequence number, increasing per session. A heartbeat older than the newest one seen is a no-op.
    pub seq: Option<i64>,
}

/// A session whose lease a heartbeat renewed.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Alive {
    /// The session.
    pub session_id: Uuid,
    /// Its user.
    pub user_id: String,
    /// Whether it counts as visible now.
    pub visible: bool,
    /// Whether the idleness that rosters show is out of date.
    pub idle_due: bool,
    /// The lease, in milliseconds.
    pub lease_ms: i64,
}

impl Alive {
    /// The part that its client needs.
    pub fn leased(&self) -> Leased {
        Leased::of(self.visible, self.lease_ms)
    }
}

/// `synchronous_commit = off` for this transaction only: a crash of Postgres loses at most some 100 ms of
/// heartbeats, and a lease has room for two missed ones.
const BEAT: &str = "with relaxed as materialized (select set_config('synchronous_commit', 'off', true)) \
     select h.session_id, h.user_id, h.visible, h.idle_due, \
            (extract(epoch from h.lease) * 1000)::bigint as lease_ms \
     from relaxed, headcount.heartbeat($1, $2, $3, $4, $5, $6, $7, $8) h";

const KICKED: &str = "select k.session_id, k.room_id from headcount.kicked($1, $2) k";

impl Store {
    /// Renews the leases of the sessions that exist. `beats` must be sorted by session, without duplicates.
    pub async fn heartbeat(
        &self,
        beats: &[Heartbeat],
        pace: &Pace,
        idle_after: Duration,
    ) -> Result<Vec<Alive>, StoreError> {
        let sessions: Vec<Uuid> = beats.iter().map(|b| b.session.0).collect();
        let users: Vec<Option<&str>> = beats.iter().map(|b| b.user.as_ref().map(UserId::as_str)).collect();
        let visible: Vec<Option<bool>> = beats.iter().map(|b| b.visible).collect();
        let active: Vec<bool> = beats.iter().map(|b| b.active).collect();
        let seqs: Vec<Option<i64>> = beats.iter().map(|b| b.seq).collect();
        self.heartbeat_query(BEAT)
            .bind(sessions)
            .bind(users)
            .bind(visible)
            .bind(active)
            .bind(seqs)
            .bind(pace.lease)
            .bind(pace.lease_hidden)
            .bind(idle_after)
            .rows()
            .await
    }

    /// The rooms from which these sessions were kicked and that they have not joined again. If a user is given, only
    /// that user's sessions.
    pub async fn kicked(
        &self,
        sessions: &[SessionId],
        user: Option<&UserId>,
    ) -> Result<Vec<(Uuid, String)>, StoreError> {
        let sessions: Vec<Uuid> = sessions.iter().map(|s| s.0).collect();
        self.query(KICKED).bind(sessions).bind(user.map(UserId::as_str)).rows().await
    }

    /// Updates the idleness that rosters show for these sessions.
    pub async fn refresh_idle(&self, sessions: &[SessionId], idle_after: Duration) -> Result<(), StoreError> {
        let sessions: Vec<Uuid> = sessions.iter().map(|s| s.0).collect();
        self.query("select headcount.refresh_idle($1, $2) from headcount.rules")
            .bind(sessions)
            .bind(idle_after)
            .run()
            .await
    }
}
