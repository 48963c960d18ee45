//! The rights with which each session was last checked: the fast path of a heartbeat, which saves reading the session's
//! rooms. Bounded: [`SESSIONS_MAX`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::Claims;
use crate::domain::id::SessionId;

/// Limit of remembered sessions, of some 50 bytes each. When it is reached all are forgotten, so a replica with more
/// sessions sometimes checks again.
const SESSIONS_MAX: usize = 65_536;

/// How long a check counts. A session may join through another replica, with another token that allows more.
const CHECK_LASTS: Duration = Duration::from_secs(300);

/// The sessions that were checked.
#[derive(Default)]
pub struct Checked {
    hasher: RandomState,
    sessions: Mutex<HashMap<SessionId, (u64, Instant)>>,
}

impl Checked {
    /// Whether the session was checked with these rights.
    pub fn is_checked(&self, session: SessionId, claims: &Claims) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let rights = self.rights(claims);
        sessions.get(&session).is_some_and(|(known, at)| *known == rights && at.elapsed() < CHECK_LASTS)
    }

    /// Remembers that it was.
    pub fn keep(&self, session: SessionId, claims: &Claims) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX {
            sessions.clear();
        }
        sessions.insert(session, (self.rights(claims), Instant::now()));
    }

    /// Forgets a session that joins, perhaps with a token that allows more than the next one.
    pub fn forget(&self, session: SessionId) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    fn rights(&self, claims: &Claims) -> u64 {
        self.hasher.hash_one((&claims.sub, &claims.rooms))
    }
}
