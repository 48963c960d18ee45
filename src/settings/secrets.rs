//! Secrets: read from files as well as from variables, and refused where anybody could guess them.

use std::fs::File;
use std::io::Read;

use secrecy::{ExposeSecret, SecretString};

use super::SettingError;

/// Limit of a file, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// Bytes of a key, at least.
const BYTES_MIN: usize = 32;

/// Different bytes of a key, at least. 32 random hexadecimal digits have as few once in 10^9.
const DIFFERENT_MIN: usize = 6;

/// What examples write where a key belongs. Each is longer than what 32 random bytes in base64 hold by chance.
const PLACEHOLDERS: [&str; 8] =
    ["replace-", "replace_", "replaceme", "changeme", "change-me", "change_me", "placeholder", "your-secret"];

/// The secret in a file, without the line end after it: a value parser.
pub(crate) fn in_file(path: &str) -> Result<SecretString, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    read.map_err(|error| error.to_string())?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() { Err("the file is empty".into()) } else { Ok(secret.into()) }
}

/// A key that nobody guesses.
pub(super) fn strong(name: &str, key: &str) -> Result<(), SettingError> {
    let refuse = |why: &str| Err(SettingError(format!("{name} {why}")));
    let mut bytes = key.as_bytes().to_vec();
    bytes.sort_unstable();
    bytes.dedup();
    let written = key.to_ascii_lowercase();
    if key.len() < BYTES_MIN {
        return refuse(&format!("must be at least {BYTES_MIN} bytes long"));
    }
    if bytes.len() < DIFFERENT_MIN {
        return refuse("repeats a few bytes; anybody can guess it");
    }
    match PLACEHOLDERS.iter().find(|placeholder| written.contains(*placeholder)) {
        Some(placeholder) => refuse(&format!("is a placeholder: {placeholder:?} is in it")),
        None => Ok(()),
    }
}

/// A server key that also signs tokens would let anybody with it be anybody, and whoever signs tokens be a server.
pub(crate) fn apart(
    server_keys: &SecretString,
    secrets: [(&str, Option<&SecretString>); 2],
) -> Result<(), SettingError> {
    for (name, secret) in secrets {
        let Some(secret) = secret.map(ExposeSecret::expose_secret) else { continue };
        if server_keys.expose_secret().split(',').any(|key| key.trim() == secret) {
            return Err(SettingError(format!(
                "HEADCOUNT_SERVER_KEY and {name} are the same; each needs a key of its own"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_can_be_guessed_is_refused_by_name() {
        for (key, why) in [
            ("short", "32 bytes"),
            (&"a".repeat(64), "repeats"),
            (&"abcde".repeat(13), "repeats"),
            ("REPLACE-with-the-output-of-openssl-rand-hex-32", "placeholder"),
            ("please-ChangeMe-before-going-to-production", "placeholder"),
        ] {
            let refused = strong("HEADCOUNT_JWT_SECRET", key).unwrap_err().to_string();
            assert!(refused.starts_with("HEADCOUNT_JWT_SECRET ") && refused.contains(why), "{refused}");
        }
        strong("X", "9f86d081884c7d659a2feaa0c55ad015").unwrap();
    }

    #[test]
    fn a_secret_in_a_file_ends_before_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |content: &str| {
            std::fs::write(&path, content).unwrap();
            in_file(path.to_str().unwrap()).map(|secret| secret.expose_secret().to_owned())
        };
        assert_eq!(read("a secret\r\n").as_deref(), Ok("a secret"));
        assert_eq!(read(" kept ").as_deref(), Ok(" kept "));
        assert!(read("\n").is_err());
        assert!(in_file("/nowhere/at/all").is_err());
    }
}
