//! Credentials that were found good, so that a client's next request need not be checked from scratch.
//!
//! Kept by their hash: a dump of memory gives no tokens away. What was found under other keys than those in use is not
//! known any more; whether the time of a token is over is for whoever asks to look. Bounded: [`CACHED_MAX`].

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::token::Claims;

/// Credentials kept, at most; a replica with more users than that checks again now and then.
const CACHED_MAX: usize = 16_384;

/// SHA-256 of a credential.
pub type Hash = [u8; 32];

/// Credentials that were found good, and what they say.
#[derive(Default)]
pub struct TokenCache(RwLock<Found>);

#[derive(Default)]
struct Found {
    edition: u64,
    claims: HashMap<Hash, Arc<Claims>>,
}

impl TokenCache {
    /// What was found good under this edition of the keys.
    pub fn get(&self, credential: &Hash, edition: u64) -> Option<Arc<Claims>> {
        let found = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (found.edition == edition).then(|| found.claims.get(credential).cloned()).flatten()
    }

    /// Keeps what was found good by keys of this edition, or of a newer one.
    pub fn keep(&self, credential: Hash, edition: u64, claims: Arc<Claims>) {
        let mut found = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if found.edition < edition || found.claims.len() >= CACHED_MAX {
            found.claims.clear();
        }
        if found.edition <= edition {
            found.edition = edition;
            found.claims.insert(credential, claims);
        }
    }
}
