//! Parses public keys out of a JSON Web Key Set. A set may hold keys that are not meant for us. Keys of other types,
//! for other algorithms or for encryption are skipped, and so are a secret, which has no place among public keys, and a
//! short RSA key, which can be factored.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use pkcs1::RsaPublicKey;
use pkcs1::der::Decode;
use serde::Deserialize;
use serde_json::Value;

/// A key, and the one algorithm for which it is accepted.
pub(super) struct VerifyingKey {
    /// Its key id, the `kid` in a token's header.
    pub id: Option<String>,
    /// Fixed by the key, never chosen by a token's header.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

/// Keys are decoded one by one, so that an unsupported key does not make the whole set fail.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The usable keys of a set; none if the text is not a key set.
pub(super) fn parse(json: &[u8]) -> Vec<VerifyingKey> {
    let set = serde_json::from_slice(json).unwrap_or(Set { keys: Vec::new() });
    set.keys.into_iter().filter_map(|key| usable(&serde_json::from_value(key).ok()?)).collect()
}

/// Bits of an RSA key, at least.
const RSA_BITS_MIN: usize = 2048;

/// Whether an RSA key is long enough; keys of other kinds have one length.
pub(super) fn strong_enough(key: &DecodingKey) -> bool {
    let modulus = match (key.family(), key.kind()) {
        (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, .. }) => n.as_slice(),
        (AlgorithmFamily::Rsa, DecodingKeyKind::SecretOrDer(der)) => {
            RsaPublicKey::from_der(der).map_or(&[][..], |key| key.modulus.as_bytes())
        }
        _ => return true,
    };
    let leading = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(leading).map_or(8, |byte| byte.leading_zeros() as usize);
    (modulus.len() - leading) * 8 >= RSA_BITS_MIN + first
}

fn usable(jwk: &Jwk) -> Option<VerifyingKey> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let ours = jwk.common.key_algorithm.is_none_or(|given| given == name);
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|given| *given == PublicKeyUse::Signature);
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| ours && signs)?;
    if !strong_enough(&key) {
        tracing::warn!(kid = ?jwk.common.key_id, "an RSA key of tokens has less than {RSA_BITS_MIN} bits and is left out");
        return None;
    }
    Some(VerifyingKey { id: jwk.common.key_id.clone(), algorithm, key })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_meant_for_us_is_left_out() {
        let ours =
            r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let with = |more: &str| ours.replacen('{', &format!("{{{more},"), 1);
        let count = |keys: &[&str]| parse(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes()).len();
        assert_eq!(count(&[ours, &with(r#""alg":"EdDSA""#), &with(r#""use":"sig""#)]), 3);
        assert_eq!(count(&[&with(r#""alg":"RS256""#), &with(r#""use":"enc""#)]), 0);
        assert_eq!(count(&[r#"{"kty":"oct","k":"c2VjcmV0"}"#, r#"{"kty":"new"}"#, "7", ours]), 1);
    }

    proptest! {
        #[test]
        fn no_set_panics(text in ".*", key in "[a-zA-Z0-9_-]{0,50}") {
            parse(text.as_bytes());
            parse(format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{key}\"}}]}}").as_bytes());
        }
    }
}
