//! Checks settings and keys: what `serve` refuses to start with, and what it would only find out later.

use secrecy::{ExposeSecret, SecretString};

use super::arguments::DoctorArgs;
use super::finding::Finding;
use crate::auth::{KeyError, Verifier};
use crate::http::server::tls::Certificate;
use crate::settings::secrets::apart;
use crate::settings::server_keys_strong;

const MAKE_ONE: &str = "at least 32 random bytes, such as `openssl rand -hex 32` prints";

/// Runs the checks.
pub async fn look(wanted: &DoctorArgs) -> Vec<Finding> {
    let mut found = vec![settings(wanted), tokens(wanted), server_key(wanted)];
    found.extend(key_files(wanted).await);
    found.extend(certificate(wanted));
    found
}

fn settings(wanted: &DoctorArgs) -> Finding {
    match wanted.tuning.check() {
        Ok(()) => Finding::ok("settings", "all within their ranges"),
        Err(error) => Finding::fail(
            "settings",
            error.to_string(),
            "Correct that variable; `headcount serve --help` tells what each may be.",
        ),
    }
}

fn tokens(wanted: &DoctorArgs) -> Finding {
    let keys = &wanted.token_keys;
    let set = |secret: &&SecretString| !secret.expose_secret().is_empty();
    let apart = wanted.credential.server_keys().filter(set).map_or(Ok(()), |key| apart(key, keys.secrets()));
    match keys.check() {
        Err(error) => Finding::fail(
            "tokens",
            error.to_string(),
            format!("Set HEADCOUNT_JWT_SECRET, here and where your application signs tokens, to {MAKE_ONE}."),
        ),
        Ok(()) if apart.is_err() => Finding::fail(
            "tokens",
            apart.map_or_else(|error| error.to_string(), |()| String::new()),
            format!(
                "Set one of them to something else, {MAKE_ONE}: who may sign tokens need not be the server."
            ),
        ),
        Ok(()) if keys.secret().is_some() => Finding::ok("tokens", "HEADCOUNT_JWT_SECRET is long enough"),
        Ok(()) => Finding::ok("tokens", "signed by keys whose public halves are here"),
    }
}

fn server_key(wanted: &DoctorArgs) -> Finding {
    let mend = || format!("Set HEADCOUNT_SERVER_KEY, here and in your application's server, to {MAKE_ONE}.");
    let Some(keys) = wanted.credential.server_keys() else {
        return Finding::fail(
            "server key",
            "HEADCOUNT_SERVER_KEY is not set, and serve does not start without",
            mend(),
        );
    };
    match server_keys_strong(keys) {
        Ok(()) => Finding::ok("server key", "HEADCOUNT_SERVER_KEY is long enough"),
        Err(error) => Finding::fail("server key", error.to_string(), mend()),
    }
}

/// Reads key files as `serve` does, and fetches the keys that it would fetch.
async fn key_files(wanted: &DoctorArgs) -> Option<Finding> {
    let keys = &wanted.token_keys;
    let verifier = match Verifier::new(keys.sources()) {
        Ok(verifier) => verifier,
        Err(error) => return Some(unusable(&error)),
    };
    if let (Some(remote), Some(url)) = (verifier.remote(), &keys.jwks_url) {
        return Some(match remote.look().await {
            Ok(count) => Finding::ok("token keys", format!("{count} from {url}")),
            Err(reason) => Finding::fail(
                "token keys",
                format!("HEADCOUNT_JWKS_URL gives none: {reason}"),
                format!(
                    "Make {url} answer this machine with a JSON Web Key Set (try curl), or correct HEADCOUNT_JWKS_URL."
                ),
            ),
        });
    }
    verifier.has_files().then(|| Finding::ok("token keys", "the files can be read and hold public keys"))
}

fn unusable(error: &KeyError) -> Finding {
    let mend = match error {
        KeyError::File(..) => {
            "Correct the path in HEADCOUNT_JWT_PUBLIC_KEY_FILE or HEADCOUNT_JWKS_FILE, and let the user that runs headcount read it."
        }
        KeyError::NoKey(_) => {
            "Put a public key into it: RSA, P-256 or Ed25519, in PEM (HEADCOUNT_JWT_PUBLIC_KEY_FILE) or as a JSON Web Key \
             Set (HEADCOUNT_JWKS_FILE)."
        }
        KeyError::Roots(_) => "Install the system's root certificates (Debian: ca-certificates).",
    };
    Finding::fail("token keys", error.to_string(), mend)
}

fn certificate(wanted: &DoctorArgs) -> Option<Finding> {
    let (chain, key) = wanted.tls.both()?;
    Some(match Certificate::open(chain, key) {
        Ok(_) => Finding::ok("certificate", "certificate and key are a pair"),
        Err(error) => Finding::fail(
            "certificate",
            error.to_string(),
            "Correct HEADCOUNT_TLS_CERT and HEADCOUNT_TLS_KEY: a certificate with its chain and its own key, in PEM, that \
             the user that runs headcount may read.",
        ),
    })
}
