//! Settings of the keys that sign tokens.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use hyper::Uri;
use secrecy::{ExposeSecret, SecretString};

use super::{SettingError, long_enough};
use crate::auth::Sources;
use crate::auth::remote::FetchPace;

/// What checks tokens.
#[derive(Args, Debug, Clone)]
pub struct TokenKeys {
    /// Secret that signs tokens (HS256), at least 32 bytes
    #[arg(long, env = "HEADCOUNT_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<SecretString>,
    /// The secret that HEADCOUNT_JWT_SECRET replaces, while tokens signed with it are about
    #[arg(long, env = "HEADCOUNT_JWT_SECRET_PREVIOUS", hide_env_values = true)]
    pub jwt_secret_previous: Option<SecretString>,
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
}

impl TokenKeys {
    /// Some key must be there, and a short secret can be guessed.
    pub fn check(&self) -> Result<(), SettingError> {
        let public =
            self.jwt_public_key_file.is_some() || self.jwks_file.is_some() || self.jwks_url.is_some();
        if self.jwt_secret.is_none() && !public {
            return Err(SettingError(
                "HEADCOUNT_JWT_SECRET is not set: what signs tokens? (or HEADCOUNT_JWT_PUBLIC_KEY_FILE, \
                 HEADCOUNT_JWKS_FILE, HEADCOUNT_JWKS_URL)"
                    .into(),
            ));
        }
        let named = [
            ("HEADCOUNT_JWT_SECRET", &self.jwt_secret),
            ("HEADCOUNT_JWT_SECRET_PREVIOUS", &self.jwt_secret_previous),
        ];
        named.into_iter().try_for_each(|(name, secret)| {
            secret.as_ref().map_or(Ok(()), |secret| long_enough(name, secret.expose_secret()))
        })
    }

    /// What checks tokens.
    pub fn sources(&self) -> Sources {
        Sources {
            secrets: self.jwt_secret.iter().chain(&self.jwt_secret_previous).cloned().collect(),
            public_key_file: self.jwt_public_key_file.clone(),
            jwks_file: self.jwks_file.clone(),
            jwks_url: self.jwks_url.clone(),
            jwks_pace: FetchPace::default(),
            issuer: self.jwt_issuer.clone(),
            audience: self.jwt_audience.clone(),
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
