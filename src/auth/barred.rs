//! The revocations that this replica knows: a cache of the database, refreshed every second. While the database is away
//! it stays as it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::token::{Claims, TokenError};
use crate::domain::id::UserId;

/// What was read of the database.
#[derive(Debug, Default)]
pub struct Bars {
    /// The database's counter of changes, read before the rest.
    pub changes: Option<i64>,
    /// From when on a user's tokens must be issued, in seconds since 1970. Bounded by the users that were ever revoked, some
    /// 100 bytes each.
    pub revoked: HashMap<UserId, i64>,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Barred {
    known: RwLock<Bars>,
    edition: AtomicU64,
}

impl Barred {
    /// Replaces the cache. An older read that is late is replaced in turn by the next one, because its counter differs.
    pub fn set(&self, bars: Bars) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = bars;
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// The counter of changes of what is known; none before the first read.
    pub fn changes(&self) -> Option<i64> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).changes
    }

    /// Increases with every change, so that streams check again only then.
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// Refuses a token, or a ticket, that was issued before its user's tokens were revoked. One that does not say when it
    /// was issued may be older.
    pub fn check(&self, claims: &Claims) -> Result<(), TokenError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.revoked.get(&claims.sub) {
            Some(not_before) if claims.issued() < *not_before => Err(TokenError::Revoked),
            _ => Ok(()),
        }
    }
}
