//! The recipe in Rust of `docs/webhooks.md`, as it stands there.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};

/// `now` in seconds since 1970, `body` as it came.
pub fn is_from_headcount(
    secret: &str,
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: i64,
) -> bool {
    let Ok(sent) = timestamp.parse::<i64>() else { return false };
    let Ok(key) = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_")) else { return false };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).expect("a key of any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    let given = signatures.split(' ').filter_map(|one| BASE64_STANDARD.decode(one.strip_prefix("v1,")?).ok());
    (now - sent).abs() <= 300 && given.into_iter().any(|one| mac.clone().verify_slice(&one).is_ok())
}
