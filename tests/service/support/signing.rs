//! Tokens signed by other parties' private keys, and their public keys as files and sets hold them. The keys beside
//! this file sign nothing but these tests.

use std::path::PathBuf;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/service/support/keys").join(name)
}

pub fn pem(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn signing(name: &str) -> (Algorithm, EncodingKey) {
    match name {
        "rsa" => (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem("rsa.pem")).unwrap()),
        "p256" => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem("p256.pem")).unwrap()),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem("ed25519.pem")).unwrap()),
    }
}

pub fn sign(name: &str, kid: Option<&str>, claims: &Value) -> String {
    let (algorithm, key) = signing(name);
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

pub fn claims() -> Value {
    json!({"sub": "ann", "exp": 4_000_000_000_u64, "rooms": ["*"]})
}

/// A public key as a set holds it.
pub fn jwk(name: &str, kid: &str) -> Value {
    let (algorithm, key) = signing(name);
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, algorithm).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = json!(kid);
    jwk
}
