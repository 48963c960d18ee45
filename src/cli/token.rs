//! `headcount token`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use secrecy::SecretString;

use super::failure::Failure;
use super::out::Out;
use crate::auth::{Claims, Right, Rights, TokenKey};
use crate::domain::id::UserId;
use crate::settings::secrets::in_file;
use crate::settings::{duration, rights};

/// `headcount token`
#[derive(Args, Debug)]
pub struct TokenArgs {
    /// User id
    pub user: String,
    /// Display name
    #[arg(long)]
    pub name: Option<String>,
    /// Rooms it is good for, separated by commas; `team:*` for all that begin so
    #[arg(long, default_value = "*", value_parser = rights)]
    pub rooms: Rights,
    /// What it is good for there, separated by commas: watch, join, list, admin
    #[arg(long, value_delimiter = ',', default_value = "watch,join")]
    pub can: Vec<Right>,
    /// How long it is good for
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub ttl: Duration,
    /// Secret that signs tokens
    #[arg(
        long,
        env = "HEADCOUNT_JWT_SECRET",
        hide_env_values = true,
        required_unless_present = "jwt_secret_file"
    )]
    pub jwt_secret: Option<SecretString>,
    /// File that holds HEADCOUNT_JWT_SECRET instead
    #[arg(long, env = "HEADCOUNT_JWT_SECRET_FILE", value_parser = in_file, conflicts_with = "jwt_secret", value_name = "FILE")]
    pub jwt_secret_file: Option<SecretString>,
}

/// Prints a token for trying things.
pub fn run(wanted: TokenArgs, out: &mut Out) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::failed)?.as_secs();
    let exp = now.saturating_add(wanted.ttl.as_secs());
    let sub = UserId::parse(&wanted.user).map_err(Failure::failed)?;
    let rooms = wanted.rooms.limited_to(&wanted.can);
    let claims = Claims { iat: Some(now), name: wanted.name, rooms, ..Claims::new(sub, exp) };
    let secret = wanted.jwt_secret.or(wanted.jwt_secret_file);
    let secret = secret.ok_or_else(|| Failure::failed("HEADCOUNT_JWT_SECRET is not set"))?;
    out.line(&TokenKey::new(secret).mint(&claims))
}
