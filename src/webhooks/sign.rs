//! Secrets and signatures. A signature is `v1,` and the base64 of an HMAC-SHA256 over `id.timestamp.body`; there is one
//! for each secret.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;

use super::message::OutboundMessage;

/// Prefix of a secret, in the form in which operators and receivers keep it.
const PREFIX: &str = "whsec_";

/// Minimum length of a secret, in bytes.
const BYTES_MIN: usize = 24;

/// Maximum length of a secret, in bytes.
const BYTES_MAX: usize = 64;

/// A secret that signs messages. Its `Debug` output is redacted.
#[derive(Clone, Debug)]
pub struct Secret(SecretSlice<u8>);

/// The text is not a valid secret. The error does not contain the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a secret is whsec_ and the base64 of {BYTES_MIN} to {BYTES_MAX} random bytes")]
pub struct SecretError;

impl Secret {
    /// Reads a secret in the form `whsec_<base64>`.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| BASE64_STANDARD.decode(text).ok());
        match bytes {
            Some(bytes) if (BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) => Ok(Self(bytes.into())),
            _ => Err(SecretError),
        }
    }

    /// A new random secret, in that form.
    pub fn random() -> SecretString {
        let bytes: [u8; BYTES_MIN] = rand::random();
        format!("{PREFIX}{}", BASE64_STANDARD.encode(bytes)).into()
    }

    fn sign(&self, message: &OutboundMessage) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).expect("a key of any length");
        mac.update(format!("{}.{}.", message.id, message.sent_at).as_bytes());
        mac.update(&message.body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// One signature for each secret, separated by spaces.
pub(super) fn signatures(secrets: &[Secret], message: &OutboundMessage) -> String {
    secrets.iter().map(|secret| secret.sign(message)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let message = OutboundMessage {
            id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk".into(),
            sent_at: 1_649_367_553,
            body: r#"{"email":"test@example.com","username":"test_user"}"#.into(),
        };
        assert_eq!(secret.sign(&message), "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
        let both = signatures(&[secret.clone(), secret], &message);
        assert_eq!(both.split(' ').count(), 2);
    }

    #[test]
    fn a_secret_is_24_to_64_bytes_in_base64_after_its_prefix() {
        let of = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        for good in [of(24), of(64), Secret::random().expose_secret().to_owned()] {
            assert!(Secret::parse(&good).is_ok(), "{good}");
        }
        let bad =
            [of(23), of(65), of(24).replace("whsec_", ""), "whsec_".into(), "whsec_é".into(), of(24) + "="];
        for bad in bad {
            assert_eq!(Secret::parse(&bad).unwrap_err(), SecretError, "{bad}");
        }
        assert!(!format!("{:?}", Secret::parse(&of(24))).contains('7'));
    }
}
