//! The claims of a token, and signing one. The [`verifier`](super::verifier) checks them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::rights::Rights;
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// Expiry, in seconds since 1970.
    pub exp: u64,
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
    /// Signature, form or claims are wrong.
    #[error("the token is not valid")]
    Invalid,
    /// It names an unknown key, and newer keys cannot be fetched now.
    #[error("the keys of tokens cannot be fetched")]
    UnknownKey,
}

impl Claims {
    /// Whether the token has expired.
    pub(super) fn expired(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.exp.saturating_add(LEEWAY) < now.as_secs()
    }

    /// Refuses claims that could not be stored or shown. An empty name is none.
    pub(super) fn checked(mut self) -> Result<Self, TokenError> {
        self.name = self.name.filter(|name| !name.is_empty());
        let fits = |text: &Option<String>, max| {
            text.as_ref().is_none_or(|t| t.chars().count() <= max && !t.contains('\0'))
        };
        let picture = self.avatar_url.as_deref().is_none_or(|url| url.is_empty() || is_picture(url));
        if picture && fits(&self.name, NAME_CHARS_MAX) { Ok(self) } else { Err(TokenError::Invalid) }
    }
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
