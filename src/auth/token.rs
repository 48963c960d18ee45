//! The claims of a token, and signing one. The [`verifier`](super::verifier) checks the signature, and
//! [`claim_rules`](super::claim_rules) the claims.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::rights::{Acquaintances, Rights};
use crate::domain::id::UserId;

/// Limit of a display name, in characters.
pub const NAME_CHARS_MAX: usize = 256;

/// Limit of an avatar's address, in characters.
pub const AVATAR_CHARS_MAX: usize = 2048;

/// Clock skew that is tolerated, in seconds.
pub(super) const LEEWAY: u64 = 5;

/// Whether this may be a picture's address: `https:` with a host, and no character that ends an address in text or in
/// HTML. Other schemes (`javascript:`, `http:`) are refused when written. `headcount.is_picture` is the same rule in SQL.
pub fn is_picture(url: &str) -> bool {
    let secure = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    let hosted = url.chars().nth(8).is_some_and(|first| !matches!(first, '/' | '?' | '#'));
    let ends = |c: char| c <= ' ' || ('\u{7f}'..='\u{a0}').contains(&c) || "\"<>\\^`{|}".contains(c);
    secure && hosted && url.chars().count() <= AVATAR_CHARS_MAX && !url.contains(ends)
}

/// The claims of a token.
#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// Expiry, in seconds since 1970.
    pub exp: u64,
    /// When it was issued, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Display name; changes the profile at a join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Picture; changes the profile at a join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// The rooms, and the rights in each.
    pub rooms: Rights,
    /// The users that it may know of wherever they are.
    #[serde(skip_serializing_if = "Acquaintances::is_empty")]
    pub users: Acquaintances,
}

/// The claim for which a token was refused, though its signature is good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{claim}` {what}")]
pub struct Refusal {
    claim: String,
    what: &'static str,
}

impl Refusal {
    pub(super) fn new(claim: &str, what: &'static str) -> Self {
        Self { claim: claim.to_owned(), what }
    }
}

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token was valid once.
    #[error("`exp` has passed")]
    Expired,
    /// The user's tokens were revoked after it was issued.
    #[error("the token was revoked")]
    Revoked,
    /// The signature or the form is wrong. Callers are told no more: they may be anybody.
    #[error("it is no token, or no key here signed it")]
    Invalid,
    /// The signature is good, and a claim is not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It names an unknown key, and newer keys cannot be fetched now.
    #[error("the keys of tokens cannot be fetched")]
    UnknownKey,
}

impl Claims {
    /// Those of a user until `exp`, and nothing more.
    pub fn new(sub: UserId, exp: u64) -> Self {
        Self {
            sub,
            exp,
            iat: None,
            name: None,
            avatar_url: None,
            rooms: Rights::default(),
            users: Acquaintances::default(),
        }
    }

    /// When it was issued, in seconds since 1970. A token that does not say counts as older than any revocation.
    pub fn issued(&self) -> i64 {
        i64::try_from(self.iat.unwrap_or(0)).unwrap_or(i64::MAX)
    }

    /// Whether the token has expired.
    pub(super) fn expired(&self) -> bool {
        self.exp.saturating_add(LEEWAY) < seconds_now()
    }
}

/// Seconds since 1970.
pub fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The secret that signs tokens, where this program mints them: in `headcount token` and in `dev`.
pub struct TokenKey(SecretString);

impl TokenKey {
    /// A key from a secret.
    pub fn new(secret: SecretString) -> Self {
        Self(secret)
    }

    /// Signs a token with HMAC-SHA-256.
    pub fn mint(&self, claims: &Claims) -> String {
        let key = EncodingKey::from_secret(self.0.expose_secret().as_bytes());
        jsonwebtoken::encode(&Header::default(), claims, &key)
            .expect("claims are a map, and HMAC takes any secret")
    }
}
