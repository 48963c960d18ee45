//! The keys of this deployment, and the owner of a credential.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::barred::Barred;
use super::rights::Rights;
use super::ticket::TicketKeys;
use super::token::{Claims, TokenError};
use super::token_cache::{Hash, TokenCache};
use super::verifier::Verifier;

/// A server key, kept as its hash only.
pub struct ServerKey(Hash);

impl ServerKey {
    /// Hashes a key.
    pub fn new(key: &SecretString) -> Self {
        Self(hash(key.expose_secret()))
    }

    /// Compares in constant time.
    fn matches(&self, credential: &Hash) -> bool {
        self.0.ct_eq(credential).into()
    }
}

fn hash(credential: &str) -> Hash {
    Sha256::digest(credential.as_bytes()).into()
}

/// The owner of a credential.
#[derive(Clone, Debug)]
pub enum Owner {
    /// An application's server.
    Server,
    /// A user.
    User(Arc<Claims>),
}

/// All keys.
pub struct Keys {
    server: Vec<ServerKey>,
    verifier: Verifier,
    cache: TokenCache,
    tickets: TicketKeys,
    barred: Arc<Barred>,
    rooms_default: Rights,
}

impl Keys {
    /// `server` may be several keys, so that they can be rotated; the first signs tickets. `rooms_default` are the
    /// rights of a token without the claim `rooms`.
    pub fn new(server: &[SecretString], verifier: Verifier, rooms_default: Rights) -> Self {
        Self {
            server: server.iter().map(ServerKey::new).collect(),
            verifier,
            cache: TokenCache::default(),
            tickets: TicketKeys::new(server),
            barred: Arc::default(),
            rooms_default,
        }
    }

    /// Finds the owner of a credential. All server keys are compared, even after a match, so that timing reveals
    /// nothing.
    pub async fn identify(&self, credential: &str) -> Result<Owner, TokenError> {
        let hash = hash(credential);
        let server = self.server.iter().fold(false, |found, key| key.matches(&hash) | found);
        if server {
            return Ok(Owner::Server);
        }
        let claims = self.claims(credential, hash).await?;
        self.barred.check(&claims)?;
        Ok(Owner::User(claims))
    }

    async fn claims(&self, token: &str, hash: Hash) -> Result<Arc<Claims>, TokenError> {
        let edition = self.verifier.edition();
        if let Some(claims) = self.cache.get(&hash, edition) {
            return if claims.expired() { Err(TokenError::Expired) } else { Ok(claims) };
        }
        let claims = self
            .verifier
            .check(token)
            .await
            .inspect_err(|error| tracing::debug!(%error, "a token is refused"))?;
        let rooms = claims.rooms.or(&self.rooms_default);
        let claims = Arc::new(Claims { rooms, ..claims });
        self.cache.keep(hash, edition, claims.clone());
        Ok(claims)
    }

    /// The owner of a ticket.
    pub fn identify_ticket(&self, ticket: &str) -> Result<Owner, TokenError> {
        let claims = self.tickets.check(ticket)?;
        self.barred.check(&claims)?;
        Ok(Owner::User(Arc::new(claims)))
    }

    /// Whose tokens are refused.
    pub fn barred(&self) -> &Arc<Barred> {
        &self.barred
    }

    /// The keys that sign and check tickets.
    pub fn tickets(&self) -> &TicketKeys {
        &self.tickets
    }

    /// The verifier of tokens.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}
