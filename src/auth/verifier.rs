//! Checks tokens: HS256 by a secret, or RS256, ES256 and EdDSA by public keys from a PEM or JWKS file or a JWKS URL.
//!
//! Each key is bound to one algorithm. A token's header only selects among keys, so a public key is never used as an
//! HMAC secret. Files and the URL are read again, so keys rotate without a restart. If one cannot be read or parsed,
//! the keys stay unchanged.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use hyper::Uri;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};

use super::claim_rules::{ClaimRules, Given};
use super::jwks::{self, VerifyingKey};
use super::remote::{FetchPace, Remote};
use super::token::{Claims, Refusal, TokenError, seconds_now};

/// Limit of a key file, in bytes.
const FILE_MAX: u64 = 256 * 1024;

/// The algorithms that are accepted.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The sources of keys, and the claims that tokens must have.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// HMAC secrets: the one in use, and the one that it replaces.
    pub secrets: Vec<SecretString>,
    /// A public key in PEM.
    pub public_key_file: Option<PathBuf>,
    /// A set of public keys.
    pub jwks_file: Option<PathBuf>,
    /// URL of a set of public keys.
    pub jwks_url: Option<Uri>,
    /// How often it is fetched.
    pub jwks_pace: FetchPace,
    /// The claims that tokens must have.
    pub rules: ClaimRules,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The file holds no usable key.
    #[error("{0}: no RSA (of 2048 bits or more), P-256 or Ed25519 public key in it")]
    NoKey(PathBuf),
    /// The system's root certificates cannot be read, so no server's certificate could be verified.
    #[error("the system's root certificates: {0}")]
    Roots(#[from] std::io::Error),
}

/// Checks tokens.
pub struct Verifier {
    sources: Sources,
    /// How a signature is checked, by the key's algorithm. Built once and not for every token.
    checks: HashMap<Algorithm, Validation>,
    local: RwLock<Local>,
    edition: AtomicU64,
    remote: Option<Remote>,
}

/// The secrets, and the keys in the files.
struct Local {
    contents: Vec<Vec<u8>>,
    keys: Vec<VerifyingKey>,
}

impl Verifier {
    /// Reads the keys. Those of a URL are missing until [`Remote::run`] runs.
    pub fn new(sources: Sources) -> Result<Self, KeyError> {
        let local = RwLock::new(read(&sources)?);
        let remote = sources.jwks_url.clone().map(|url| Remote::new(url, sources.jwks_pace)).transpose()?;
        Ok(Self { checks: checks(), sources, local, edition: AtomicU64::new(0), remote })
    }

    /// The cache of keys from a URL, if one is set.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Reads the files again.
    pub fn reload(&self) -> Result<(), KeyError> {
        let found = read(&self.sources)?;
        let mut local = self.local.write().unwrap_or_else(PoisonError::into_inner);
        if local.contents != found.contents {
            *local = found;
            self.edition.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// Increases with every change of the keys. A caller must read it before a check, so that it is never newer than
    /// the keys that the check uses.
    pub fn edition(&self) -> u64 {
        let remote = self.remote.as_ref().map_or(0, Remote::edition);
        self.edition.load(Ordering::Acquire) + remote
    }

    /// Whether any keys are read from files, which may change.
    pub fn has_files(&self) -> bool {
        self.sources.public_key_file.is_some() || self.sources.jwks_file.is_some()
    }

    /// Checks a token against every key that its header may mean. If the key is unknown and may be among newer ones,
    /// waits for those and retries once.
    pub async fn check(&self, token: &str) -> Result<Claims, TokenError> {
        match (self.check_now(token), &self.remote) {
            (Err(TokenError::UnknownKey), Some(remote)) => {
                remote.freshen().await;
                self.check_now(token).map_err(|refused| match refused {
                    TokenError::UnknownKey if remote.is_current() => TokenError::Invalid,
                    refused => refused,
                })
            }
            (answer, _) => answer,
        }
    }

    /// Checks a token with the keys at hand. Fails with [`TokenError::UnknownKey`] if the key may be among newer ones.
    pub fn check_now(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        // RFC 7515: a token names there what must be understood, and nothing of that is.
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let local =
            self.try_keys(token, &header, &self.local.read().unwrap_or_else(PoisonError::into_inner).keys);
        let (Err(TokenError::Invalid), Some(remote)) = (&local, &self.remote) else {
            return local;
        };
        remote.with_keys(|keys| match self.try_keys(token, &header, keys) {
            Err(TokenError::Invalid) if may_be_newer(&header, keys) => Err(TokenError::UnknownKey),
            answer => answer,
        })
    }

    fn try_keys(&self, token: &str, header: &Header, keys: &[VerifyingKey]) -> Result<Claims, TokenError> {
        for key in keys.iter().filter(|key| key.algorithm == header.alg) {
            if header.kid.is_some() && key.id.is_some() && header.kid != key.id {
                continue;
            }
            match jsonwebtoken::decode::<Given>(token, &key.key, &self.checks[&key.algorithm]) {
                Ok(data) => return self.sources.rules.read(data.claims, seconds_now()),
                Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => {
                    return Err(Refusal::new("{}", "is not what the claims are").into());
                }
                Err(_) => {}
            }
        }
        Err(TokenError::Invalid)
    }
}

/// For tests and `dev`: a single secret.
impl From<SecretString> for Verifier {
    fn from(secret: SecretString) -> Self {
        let sources = Sources::default();
        let local = RwLock::new(Local { contents: vec![], keys: vec![from_secret(&secret)] });
        Self { checks: checks(), sources, local, edition: AtomicU64::new(0), remote: None }
    }
}

fn checks() -> HashMap<Algorithm, Validation> {
    ALGORITHMS.into_iter().map(|algorithm| (algorithm, signature_only(algorithm))).collect()
}

/// The claims are read by [`ClaimRules`], which says what is wrong with them and takes times with a fraction.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut check = Validation::new(algorithm);
    check.validate_exp = false;
    check.validate_aud = false;
    check.set_required_spec_claims::<&str>(&[]);
    check
}

/// Whether newer keys may include the token's: there are no keys yet, or none with its `kid`. A token without a `kid`
/// waits for the next refresh, because it must not be able to cause a fetch. Neither must a token of an algorithm that
/// no public key has.
fn may_be_newer(header: &Header, keys: &[VerifyingKey]) -> bool {
    let public = matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA);
    let named = header.kid.is_some() && keys.iter().all(|key| key.id != header.kid);
    public && (named || keys.is_empty())
}

fn read(sources: &Sources) -> Result<Local, KeyError> {
    let mut contents = Vec::new();
    let mut keys: Vec<VerifyingKey> = sources.secrets.iter().map(from_secret).collect();
    if let Some(path) = &sources.public_key_file {
        let content = content(path)?;
        keys.push(from_pem(&content).ok_or_else(|| KeyError::NoKey(path.clone()))?);
        contents.push(content);
    }
    if let Some(path) = &sources.jwks_file {
        let content = content(path)?;
        let found = jwks::parse(&content);
        if found.is_empty() {
            return Err(KeyError::NoKey(path.clone()));
        }
        keys.extend(found);
        contents.push(content);
    }
    Ok(Local { contents, keys })
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
    if let Ok(rsa) = DecodingKey::from_rsa_pem(pem) {
        return jwks::strong_enough(&rsa).then_some(rsa).map(key(Algorithm::RS256));
    }
    DecodingKey::from_ec_pem(pem)
        .map(key(Algorithm::ES256))
        .or_else(|_| DecodingKey::from_ed_pem(pem).map(key(Algorithm::EdDSA)))
        .ok()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};

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
        Claims::new(UserId::parse("ann").unwrap(), exp)
    }

    const FAR: u64 = 4_000_000_000;

    #[test]
    fn a_minted_token_is_valid_under_its_own_secret_only() {
        let token = key("one").mint(&claims(FAR));
        assert_eq!(verifier("one").check_now(&token).unwrap().sub.as_str(), "ann");
        assert_eq!(verifier("two").check_now(&token).unwrap_err(), TokenError::Invalid);
    }

    #[test]
    fn an_expired_token_says_so() {
        assert_eq!(
            verifier("one").check_now(&key("one").mint(&claims(1000))).unwrap_err(),
            TokenError::Expired
        );
    }

    #[test]
    fn other_algorithms_and_missing_claims_are_refused() {
        let secret = EncodingKey::from_secret(b"one");
        let other = jsonwebtoken::encode(&Header::new(Algorithm::HS384), &claims(FAR), &secret).unwrap();
        assert_eq!(verifier("one").check_now(&other).unwrap_err(), TokenError::Invalid);
        let critical = Header { crit: Some(vec!["b64".into()]), ..Header::default() };
        let critical = jsonwebtoken::encode(&critical, &claims(FAR), &secret).unwrap();
        assert_eq!(verifier("one").check_now(&critical).unwrap_err(), TokenError::Invalid);
        let bare = serde_json::json!({"sub": "ann"});
        let bare = jsonwebtoken::encode(&Header::default(), &bare, &secret).unwrap();
        assert!(matches!(verifier("one").check_now(&bare), Err(TokenError::Refused(_))));
        assert_eq!(
            verifier("one").check_now("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.").unwrap_err(),
            TokenError::Invalid
        );
    }
}
