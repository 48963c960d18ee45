//! Tokens: JSON Web Tokens signed with HMAC-SHA-256.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::rights::Rights;
use crate::domain::id::UserId;

/// Characters of a display name, at most.
pub const NAME_CHARS_MAX: usize = 256;

/// Characters of an avatar's address, at most.
pub const AVATAR_CHARS_MAX: usize = 2048;

/// Whether this may be a picture's address. Other schemes (`javascript:`, `http:`) are refused when written.
pub fn is_picture(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// End of validity, in seconds since 1970.
    pub exp: u64,
    /// Display name; changes the profile at a join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Picture; changes the profile at a join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// Which rooms, and what there.
    #[serde(default)]
    pub rooms: Rights,
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// Signature, form or claims are wrong.
    #[error("the token is not valid")]
    Invalid,
}

/// The secret that signs and checks tokens.
pub struct TokenKey {
    secret: SecretString,
    decoding: DecodingKey,
    validation: Validation,
}

impl TokenKey {
    /// A key from a secret.
    pub fn new(secret: SecretString) -> Self {
        let decoding = DecodingKey::from_secret(secret.expose_secret().as_bytes());
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.validate_aud = false;
        validation.validate_nbf = true;
        validation.leeway = 5; // seconds that two clocks may differ
        Self { secret, decoding, validation }
    }

    /// Checks a token.
    pub fn check(&self, token: &str) -> Result<Claims, TokenError> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation);
        let claims = data.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            _ => TokenError::Invalid,
        })?;
        let fits = |text: &Option<String>, max| {
            text.as_ref().is_none_or(|t| t.chars().count() <= max && !t.contains('\0'))
        };
        let claims = claims.claims;
        let picture = claims.avatar_url.as_deref().is_none_or(|url| url.is_empty() || is_picture(url));
        if picture && fits(&claims.name, NAME_CHARS_MAX) && fits(&claims.avatar_url, AVATAR_CHARS_MAX) {
            Ok(claims)
        } else {
            Err(TokenError::Invalid)
        }
    }

    /// Signs a token.
    pub fn mint(&self, claims: &Claims) -> String {
        let key = EncodingKey::from_secret(self.secret.expose_secret().as_bytes());
        jsonwebtoken::encode(&Header::default(), claims, &key)
            .expect("claims are a map, and HMAC takes any secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> TokenKey {
        TokenKey::new(SecretString::from(secret.to_owned()))
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
        assert_eq!(key("one").check(&token).unwrap().sub.as_str(), "ann");
        assert_eq!(key("two").check(&token).unwrap_err(), TokenError::Invalid);
    }

    #[test]
    fn an_expired_token_says_so() {
        assert_eq!(key("one").check(&key("one").mint(&claims(1000))).unwrap_err(), TokenError::Expired);
    }

    #[test]
    fn other_algorithms_and_missing_claims_are_refused() {
        let secret = EncodingKey::from_secret(b"one");
        let other = jsonwebtoken::encode(&Header::new(Algorithm::HS384), &claims(FAR), &secret).unwrap();
        assert_eq!(key("one").check(&other).unwrap_err(), TokenError::Invalid);
        let bare = serde_json::json!({"sub": "ann"});
        let bare = jsonwebtoken::encode(&Header::default(), &bare, &secret).unwrap();
        assert_eq!(key("one").check(&bare).unwrap_err(), TokenError::Invalid);
        assert_eq!(
            key("one").check("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.").unwrap_err(),
            TokenError::Invalid
        );
    }
}
