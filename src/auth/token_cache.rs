//! A cache of verified tokens: the fast path of a request, which saves checking the signature again.
//!
//! The cache keys are hashes, so that a memory dump reveals no tokens. Entries are dropped when the keys change. Expiry
//! is not checked here; the caller must. Bounded: [`CACHED_MAX`].

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::token::Claims;

/// Limit of cached tokens. When it is reached the cache is cleared, so a replica with more users sometimes checks
/// again.
const CACHED_MAX: usize = 16_384;

/// SHA-256 of a credential.
pub type Hash = [u8; 32];

/// Verified tokens, with their claims.
#[derive(Default)]
pub struct TokenCache(RwLock<Found>);

#[derive(Default)]
struct Found {
    edition: u64,
    claims: HashMap<Hash, Arc<Claims>>,
}

impl TokenCache {
    /// The claims of a token that was verified with this edition of the keys.
    pub fn get(&self, credential: &Hash, edition: u64) -> Option<Arc<Claims>> {
        let found = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (found.edition == edition).then(|| found.claims.get(credential).cloned()).flatten()
    }

    /// Caches a token that was verified with keys of this edition or a newer one.
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
