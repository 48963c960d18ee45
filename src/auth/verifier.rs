//! Checks tokens: HS256 by a secret, or RS256, ES256 and EdDSA by public keys from a PEM or JWKS file.
//!
//! Each key has the one algorithm it is good for; what a token's header asks for only selects among keys, so a
//! public key is never taken for an HMAC secret. Files are read again when they change, so keys rotate without a
//! restart; a file that cannot be read or understood leaves the keys as they were.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};

use super::token::{Claims, TokenError};

/// Bytes of a key file, at most.
const FILE_MAX: u64 = 256 * 1024;

/// Seconds that two clocks may differ.
const LEEWAY: u64 = 5;

/// Where keys come from, and what tokens must say besides.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// HMAC secrets: the one in use, and one that it replaces.
    pub secrets: Vec<SecretString>,
    /// A public key in PEM.
    pub public_key_file: Option<PathBuf>,
    /// A set of public keys.
    pub jwks_file: Option<PathBuf>,
    /// Required when set.
    pub issuer: Option<String>,
    /// Required when set.
    pub audience: Option<String>,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The file holds no usable key.
    #[error("{0}: no RSA, P-256 or Ed25519 public key in it")]
    NoKey(PathBuf),
}

struct VerifyingKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Checks tokens.
pub struct Verifier {
    sources: Sources,
    keys: RwLock<Vec<VerifyingKey>>,
}

impl Verifier {
    /// Reads the keys.
    pub fn new(sources: Sources) -> Result<Self, KeyError> {
        let keys = RwLock::new(read(&sources)?);
        Ok(Self { sources, keys })
    }

    /// Reads the files again.
    pub fn reload(&self) -> Result<(), KeyError> {
        let keys = read(&self.sources)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Whether there are files that may change.
    pub fn has_files(&self) -> bool {
        self.sources.public_key_file.is_some() || self.sources.jwks_file.is_some()
    }

    /// Checks a token against every key that its header may mean.
    pub fn check(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut refused = TokenError::Invalid;
        for key in keys.iter().filter(|key| key.algorithm == header.alg) {
            if header.kid.is_some() && key.id.is_some() && header.kid != key.id {
                continue;
            }
            match jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(data) => return data.claims.checked(),
                Err(error) if *error.kind() == ErrorKind::ExpiredSignature => refused = TokenError::Expired,
                Err(_) => {}
            }
        }
        Err(refused)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let mut required = HashSet::from(["exp", "sub"]);
        validation.validate_aud = self.sources.audience.is_some();
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        if let Some(issuer) = &self.sources.issuer {
            validation.set_issuer(&[issuer]);
            required.insert("iss");
        }
        if let Some(audience) = &self.sources.audience {
            validation.set_audience(&[audience]);
            required.insert("aud");
        }
        validation.set_required_spec_claims(&required.into_iter().collect::<Vec<_>>());
        validation
    }
}

/// For tests and `dev`: one secret and nothing else.
impl From<SecretString> for Verifier {
    fn from(secret: SecretString) -> Self {
        Self { keys: RwLock::new(vec![from_secret(&secret)]), sources: Sources::default() }
    }
}

fn read(sources: &Sources) -> Result<Vec<VerifyingKey>, KeyError> {
    let mut keys: Vec<VerifyingKey> = sources.secrets.iter().map(from_secret).collect();
    if let Some(path) = &sources.public_key_file {
        keys.push(from_pem(&content(path)?).ok_or_else(|| KeyError::NoKey(path.clone()))?);
    }
    if let Some(path) = &sources.jwks_file {
        let found = from_jwks(&content(path)?);
        if found.is_empty() {
            return Err(KeyError::NoKey(path.clone()));
        }
        keys.extend(found);
    }
    Ok(keys)
}

fn content(path: &Path) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    file.map_err(|error| KeyError::File(path.to_owned(), error))?;
    Ok(bytes)
}

fn from_secret(secret: &SecretString) -> VerifyingKey {
    let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
    VerifyingKey { id: None, algorithm: Algorithm::HS256, key }
}

fn from_pem(pem: &[u8]) -> Option<VerifyingKey> {
    let key = |algorithm| move |key| VerifyingKey { id: None, algorithm, key };
    DecodingKey::from_rsa_pem(pem)
        .map(key(Algorithm::RS256))
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(key(Algorithm::ES256)))
        .or_else(|_| DecodingKey::from_ed_pem(pem).map(key(Algorithm::EdDSA)))
        .ok()
}

/// Keys of other kinds are left out: a set may hold what is not meant for us. Secrets in a set are refused.
fn from_jwks(json: &[u8]) -> Vec<VerifyingKey> {
    let set: JwkSet = serde_json::from_slice(json).unwrap_or(JwkSet { keys: Vec::new() });
    set.keys.iter().filter_map(from_jwk).collect()
}

fn from_jwk(jwk: &Jwk) -> Option<VerifyingKey> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    Some(VerifyingKey { id: jwk.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};

    use super::super::rights::Rights;
    use super::super::token::TokenKey;
    use super::*;
    use crate::domain::id::UserId;

    fn key(secret: &str) -> TokenKey {
        TokenKey::new(SecretString::from(secret.to_owned()))
    }

    fn verifier(secret: &str) -> Verifier {
        SecretString::from(secret.to_owned()).into()
    }

    fn claims(exp: u64) -> Claims {
        Claims {
            sub: UserId::parse("ann").unwrap(),
            exp,
            name: None,
            avatar_url: None,
            rooms: Rights::default(),
        }
    }

    const FAR: u64 = 4_000_000_000;

    #[test]
    fn a_minted_token_is_valid_under_its_own_secret_only() {
        let token = key("one").mint(&claims(FAR));
        assert_eq!(verifier("one").check(&token).unwrap().sub.as_str(), "ann");
        assert_eq!(verifier("two").check(&token).unwrap_err(), TokenError::Invalid);
    }

    #[test]
    fn an_expired_token_says_so() {
        assert_eq!(verifier("one").check(&key("one").mint(&claims(1000))).unwrap_err(), TokenError::Expired);
    }

    #[test]
    fn other_algorithms_and_missing_claims_are_refused() {
        let secret = EncodingKey::from_secret(b"one");
        let other = jsonwebtoken::encode(&Header::new(Algorithm::HS384), &claims(FAR), &secret).unwrap();
        assert_eq!(verifier("one").check(&other).unwrap_err(), TokenError::Invalid);
        let bare = serde_json::json!({"sub": "ann"});
        let bare = jsonwebtoken::encode(&Header::default(), &bare, &secret).unwrap();
        assert_eq!(verifier("one").check(&bare).unwrap_err(), TokenError::Invalid);
        assert_eq!(
            verifier("one").check("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.").unwrap_err(),
            TokenError::Invalid
        );
    }
}
