//! The claims of a token, and signing one. The [`verifier`](super::verifier) checks them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use super::rights::Rights;
use crate::domain::id::UserId;

/// Limit of a display name, in characters.
pub const NAME_CHARS_MAX: usize = 256;

/// Limit of an avatar's address, in characters.
pub const AVATAR_CHARS_MAX: usize = 2048;

/// Clock skew that is tolerated, in seconds.
pub(super) const LEEWAY: u64 = 5;

/// Whether this may be a picture's address: `https:` only. Other schemes (`javascript:`, `http:`) are refused when
/// written.
pub fn is_picture(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// The claims of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// Expiry, in seconds since 1970.
    pub exp: u64,
    /// When it was issued, in seconds since 1970. A token may be revoked by it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub iat: Option<i64>,
    /// Display name; changes the profile at a join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Picture; changes the profile at a join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// The rooms, and the rights in each.
    #[serde(default)]
    pub rooms: Rights,
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token was valid once.
    #[error("the token has expired")]
    Expired,
    /// The user's tokens were revoked after it was issued.
    #[error("the token was revoked")]
    Revoked,
    /// Signature, form or claims are wrong.
    #[error("the token is not valid")]
    Invalid,
    /// It names an unknown key, and newer keys cannot be fetched now.
    #[error("the keys of tokens cannot be fetched")]
    UnknownKey,
}

impl Claims {
    /// When it was issued, in seconds since 1970. A token that does not say counts as older than any revocation.
    pub fn issued(&self) -> i64 {
        self.iat.unwrap_or(0)
    }

    /// Whether the token has expired.
    pub(super) fn expired(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.exp.saturating_add(LEEWAY) < now.as_secs()
    }

    /// Refuses claims that could not be stored or shown.
    pub(super) fn checked(self) -> Result<Self, TokenError> {
        let fits = |text: &Option<String>, max| {
            text.as_ref().is_none_or(|t| t.chars().count() <= max && !t.contains('\0'))
        };
        let picture = self.avatar_url.as_deref().is_none_or(|url| url.is_empty() || is_picture(url));
        if picture && fits(&self.name, NAME_CHARS_MAX) && fits(&self.avatar_url, AVATAR_CHARS_MAX) {
            Ok(self)
        } else {
            Err(TokenError::Invalid)
        }
    }
}

/// Now, in seconds since 1970.
pub fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// A number of seconds, which may have a fraction (RFC 7519). Anything else was ignored before the claim had a meaning, and
/// still is: such a token does not say when it was issued.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let given = serde_json::Value::deserialize(deserializer)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a fraction is dropped, and a number beyond all time saturates"
    )]
    let whole = |seconds: f64| seconds.floor() as i64;
    Ok(given.as_i64().or_else(|| given.as_f64().map(whole)))
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
