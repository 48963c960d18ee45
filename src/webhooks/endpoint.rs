//! Receivers of messages. An address is checked when an operator sets it, and again before each message is sent,
//! because the setting that allows plain HTTP may have changed since.

use std::net::IpAddr;

use hyper::Uri;

use super::sign::{Secret, SecretError};

/// Limit of an address, in characters.
pub const URL_CHARS_MAX: usize = 2048;

/// Whether plain HTTP may leave this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plain {
    /// To this machine only.
    Loopback,
    /// To anywhere, because a setting allows it.
    Anywhere,
}

/// A receiver: its address and the secrets that sign.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: Uri,
    secrets: Vec<Secret>,
}

/// Why an address or secrets are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// The address is not acceptable.
    #[error(
        "url is an https: address of at most {URL_CHARS_MAX} characters, without a user and without #; http: to this \
         machine only, unless HEADCOUNT_WEBHOOKS_INSECURE is on"
    )]
    Url,
    /// The secrets are malformed, or their number is wrong.
    #[error("secrets are one or two; {0}")]
    Secrets(SecretError),
}

impl Endpoint {
    /// Checks an address and one or two secrets.
    pub fn parse(url: &str, secrets: &[String], plain: Plain) -> Result<Self, TargetError> {
        let url = check_url(url, plain)?;
        if !(1..=2).contains(&secrets.len()) {
            return Err(TargetError::Secrets(SecretError));
        }
        let secrets: Result<_, _> = secrets.iter().map(|secret| Secret::parse(secret)).collect();
        Ok(Self { url, secrets: secrets.map_err(TargetError::Secrets)? })
    }

    pub(super) fn url(&self) -> &Uri {
        &self.url
    }

    pub(super) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }
}

/// Checks an address.
pub fn check_url(text: &str, plain: Plain) -> Result<Uri, TargetError> {
    if text.len() > URL_CHARS_MAX || text.contains(['#', '\0']) {
        return Err(TargetError::Url);
    }
    let url: Uri = text.parse().map_err(|_| TargetError::Url)?;
    let authority = url.authority().ok_or(TargetError::Url)?;
    let host = authority.host();
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let allowed = match url.scheme_str() {
        Some("https") => true,
        Some("http") => here || plain == Plain::Anywhere,
        _ => false,
    };
    // Refuses a user, because its password would be shown, and an empty port.
    let sound = !host.is_empty() && !authority.as_str().contains('@') && !authority.as_str().ends_with(':');
    if allowed && sound { Ok(url) } else { Err(TargetError::Url) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_of_this_machine() {
        for good in [
            "https://app.example/hooks?key=1",
            "https://app.example:8443",
            "https://10.0.0.7/",
            "http://localhost:8080/x",
            "http://127.0.0.1:1/",
            "http://[::1]:8080/",
        ] {
            assert!(check_url(good, Plain::Loopback).is_ok(), "{good}");
        }
        for bad in [
            "",
            "app.example",
            "/hooks",
            "ftp://app.example/",
            "file:///etc/passwd",
            "http://app.example/",
            "http://127.0.0.1.evil.example/",
            "http://localhost.evil.example/",
            "http://localhost@evil.example/",
            "https://user:password@app.example/",
            "https://app.example/#here",
            "https:///x",
            "https://app.example:/",
            "https://app.example/a b",
            &format!("https://app.example/{}", "a".repeat(URL_CHARS_MAX)),
        ] {
            assert_eq!(check_url(bad, Plain::Loopback), Err(TargetError::Url), "{bad}");
        }
        assert!(check_url("http://receiver.internal/", Plain::Anywhere).is_ok());
        assert!(check_url("ftp://receiver.internal/", Plain::Anywhere).is_err());
    }
}
