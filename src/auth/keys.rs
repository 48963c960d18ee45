//! The keys of this deployment, and who a credential belongs to.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::rights::Rights;
use super::ticket::TicketKeys;
use super::token::{Claims, TokenError};
use super::verifier::Verifier;

/// A server key, kept as its hash only.
pub struct ServerKey([u8; 32]);

impl ServerKey {
    /// Hashes a key.
    pub fn new(key: &SecretString) -> Self {
        Self(Sha256::digest(key.expose_secret().as_bytes()).into())
    }

    /// Compares in constant time.
    fn matches(&self, credential: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(credential.as_bytes()).into();
        self.0.ct_eq(&hash).into()
    }
}

/// Whose credential it is.
#[derive(Clone, Debug)]
pub enum Owner {
    /// An application's server.
    Server,
    /// A user.
    User(Box<Claims>),
}

/// All keys.
pub struct Keys {
    server: Vec<ServerKey>,
    verifier: Verifier,
    tickets: TicketKeys,
    rooms_default: Rights,
}

impl Keys {
    /// These server keys (several, so that they can be rotated; the first signs tickets), what checks tokens, and
    /// what a token without the claim `rooms` allows.
    pub fn new(server: &[SecretString], verifier: Verifier, rooms_default: Rights) -> Self {
        Self {
            server: server.iter().map(ServerKey::new).collect(),
            verifier,
            tickets: TicketKeys::new(server),
            rooms_default,
        }
    }

    /// Finds out whose credential this is. Every server key is compared, whichever matches.
    pub async fn identify(&self, credential: &str) -> Result<Owner, TokenError> {
        let server = self.server.iter().fold(false, |found, key| key.matches(credential) | found);
        if server {
            Ok(Owner::Server)
        } else {
            let claims = self.verifier.check(credential).await?;
            let rooms = claims.rooms.or(&self.rooms_default);
            Ok(Owner::User(Box::new(Claims { rooms, ..claims })))
        }
    }

    /// What signs and checks tickets.
    pub fn tickets(&self) -> &TicketKeys {
        &self.tickets
    }

    /// What checks tokens.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}
