//! Settings of the keys that sign tokens.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Uri;
use secrecy::{ExposeSecret, SecretString};

use super::secrets::{in_file, strong};
use super::{SettingError, between, duration};
use crate::auth::remote::FetchPace;
use crate::auth::{ClaimRules, Sources};

/// What checks tokens.
#[derive(Args, Debug, Clone)]
pub struct TokenKeys {
    /// Secret that signs tokens (HS256), at least 32 bytes
    #[arg(long, env = "HEADCOUNT_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<SecretString>,
    /// File that holds HEADCOUNT_JWT_SECRET instead
    #[arg(long, env = "HEADCOUNT_JWT_SECRET_FILE", value_parser = in_file, conflicts_with = "jwt_secret", value_name = "FILE")]
    pub jwt_secret_file: Option<SecretString>,
    /// The secret that HEADCOUNT_JWT_SECRET replaces, while tokens signed with it are about
    #[arg(long, env = "HEADCOUNT_JWT_SECRET_PREVIOUS", hide_env_values = true)]
    pub jwt_secret_previous: Option<SecretString>,
    /// File that holds HEADCOUNT_JWT_SECRET_PREVIOUS instead
    #[arg(long, env = "HEADCOUNT_JWT_SECRET_PREVIOUS_FILE", value_parser = in_file, conflicts_with = "jwt_secret_previous", value_name = "FILE")]
    pub jwt_secret_previous_file: Option<SecretString>,
    /// Public key of tokens in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA); read again when it changes
    #[arg(long, env = "HEADCOUNT_JWT_PUBLIC_KEY_FILE")]
    pub jwt_public_key_file: Option<PathBuf>,
    /// Public keys of tokens as a JSON Web Key Set; read again when it changes
    #[arg(long, env = "HEADCOUNT_JWKS_FILE")]
    pub jwks_file: Option<PathBuf>,
    /// The same by HTTPS: fetched at the start, every 5 min, and when a token names a key that is not known
    #[arg(long, env = "HEADCOUNT_JWKS_URL", value_parser = keys_url)]
    pub jwks_url: Option<Uri>,
    /// Tokens must have this `iss`
    #[arg(long, env = "HEADCOUNT_JWT_ISSUER")]
    pub jwt_issuer: Option<String>,
    /// Tokens must have this `aud`
    #[arg(long, env = "HEADCOUNT_JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// The claim of tokens that holds the user's id
    #[arg(long, env = "HEADCOUNT_JWT_USER_CLAIM", default_value = "sub")]
    pub jwt_user_claim: String,
    /// How long a token may be good for, from its `iat` (without one: from now) to its `exp` [1m to 400d]; any time
    /// when not given
    #[arg(long, env = "HEADCOUNT_JWT_LIFETIME_MAX", value_parser = duration)]
    pub jwt_lifetime_max: Option<Duration>,
}

impl TokenKeys {
    /// Some key must be there, and a short secret can be guessed.
    pub fn check(&self) -> Result<(), SettingError> {
        let public =
            self.jwt_public_key_file.is_some() || self.jwks_file.is_some() || self.jwks_url.is_some();
        if self.secret().is_none() && !public {
            return Err(SettingError(
                "HEADCOUNT_JWT_SECRET is not set: what signs tokens? (or HEADCOUNT_JWT_SECRET_FILE, \
                 HEADCOUNT_JWT_PUBLIC_KEY_FILE, \
                 HEADCOUNT_JWKS_FILE, HEADCOUNT_JWKS_URL)"
                    .into(),
            ));
        }
        if let Some(max) = self.jwt_lifetime_max {
            let (least, most) = (Duration::from_secs(60), Duration::from_secs(400 * 24 * 3600));
            between("HEADCOUNT_JWT_LIFETIME_MAX", max, least, most)?;
        }
        self.secrets().into_iter().try_for_each(|(name, secret)| {
            secret.map_or(Ok(()), |secret| strong(name, secret.expose_secret()))
        })
    }

    /// The secret that signs tokens, from its variable or its file.
    pub fn secret(&self) -> Option<&SecretString> {
        self.jwt_secret.as_ref().or(self.jwt_secret_file.as_ref())
    }

    /// The secrets with the names of their settings.
    pub fn secrets(&self) -> [(&'static str, Option<&SecretString>); 2] {
        let previous = self.jwt_secret_previous.as_ref().or(self.jwt_secret_previous_file.as_ref());
        [("HEADCOUNT_JWT_SECRET", self.secret()), ("HEADCOUNT_JWT_SECRET_PREVIOUS", previous)]
    }

    /// What checks tokens.
    pub fn sources(&self) -> Sources {
        Sources {
            secrets: self.secrets().into_iter().filter_map(|(_, secret)| secret.cloned()).collect(),
            public_key_file: self.jwt_public_key_file.clone(),
            jwks_file: self.jwks_file.clone(),
            jwks_url: self.jwks_url.clone(),
            jwks_pace: FetchPace::default(),
            rules: ClaimRules {
                issuer: self.jwt_issuer.clone(),
                audience: self.jwt_audience.clone(),
                user: self.jwt_user_claim.clone(),
                lifetime_max: self.jwt_lifetime_max,
            },
        }
    }
}

/// Whoever can change what comes from there can sign tokens: no plain HTTP but on this machine.
fn keys_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
    let host = url.host().unwrap_or_default();
    let here =
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if here => Ok(url),
        _ => Err("an https: address (http: on this machine only)".into()),
    }
}
