//! Arguments that several verbs share: service and credential, and parsers of rooms, users and moments.

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::id::{RoomId, UserId};
use crate::settings::secrets::in_file;

/// The service, and the caller's credential.
#[derive(Args, Debug, Clone)]
pub struct ServiceArgs {
    /// Address of the service
    #[arg(long, env = "HEADCOUNT_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// The caller's credential
    #[command(flatten)]
    pub credential: Credential,
}

/// The caller's credential.
#[derive(Args, Debug, Clone)]
pub struct Credential {
    /// Ask as an application's server, with this key; of several separated by commas, the first
    #[arg(long, env = "HEADCOUNT_SERVER_KEY", hide_env_values = true, value_name = "KEY")]
    pub server_key: Option<SecretString>,
    /// File that holds HEADCOUNT_SERVER_KEY instead
    #[arg(long, env = "HEADCOUNT_SERVER_KEY_FILE", value_parser = in_file, conflicts_with = "server_key", value_name = "FILE")]
    pub server_key_file: Option<SecretString>,
    /// Ask as a user, with this token; goes before the server key
    #[arg(long, env = "HEADCOUNT_TOKEN", hide_env_values = true)]
    pub token: Option<SecretString>,
    /// File that holds HEADCOUNT_TOKEN instead
    #[arg(long, env = "HEADCOUNT_TOKEN_FILE", value_parser = in_file, conflicts_with = "token", value_name = "FILE")]
    pub token_file: Option<SecretString>,
}

impl Credential {
    /// The server keys, from their variable or their file.
    pub fn server_keys(&self) -> Option<&SecretString> {
        self.server_key.as_ref().or(self.server_key_file.as_ref())
    }

    /// A token says whose it is, so it goes first. The first of several keys: the others are on their way in or out.
    pub fn given(&self) -> Option<SecretString> {
        let set = |secret: &&SecretString| !secret.expose_secret().is_empty();
        if let Some(token) = self.token.as_ref().or(self.token_file.as_ref()).filter(set) {
            return Some(token.clone());
        }
        let keys = self.server_keys().filter(set)?;
        Some(keys.expose_secret().split(',').next().unwrap_or_default().trim().into())
    }
}

/// A time range.
#[derive(Args, Debug, Clone)]
pub struct RangeArgs {
    /// Beginning: a moment like 2026-11-24T12:00:00Z, or `15m` for so long ago; a day before the end if not given
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub from: Option<OffsetDateTime>,
    /// End, not included, written likewise; now if not given
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub to: Option<OffsetDateTime>,
}

pub fn room(text: &str) -> Result<RoomId, String> {
    RoomId::parse(text).map_err(|error| error.to_string())
}

pub fn user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|error| error.to_string())
}

/// Parses a moment, or how long ago it was by this machine's clock.
pub fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let wanted = "a moment like 2026-11-24T12:00:00Z, or how long ago it was, like 15m";
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    let ago = humantime::parse_duration(text).map_err(|_| wanted)?;
    OffsetDateTime::now_utc()
        .checked_sub(time::Duration::try_from(ago).map_err(|_| wanted)?)
        .ok_or(wanted.into())
}
