//! `headcount token`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use secrecy::SecretString;

use super::failure::Failure;
use super::out::Out;
use crate::auth::{Claims, Right, Rights, TokenKey};
use crate::domain::id::UserId;
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
    #[arg(long, env = "HEADCOUNT_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: SecretString,
}

/// Prints a token for trying things.
pub fn run(wanted: TokenArgs, out: &mut Out) -> Result<(), Failure> {
    let exp =
        SystemTime::now().checked_add(wanted.ttl).ok_or_else(|| Failure::failed("--ttl is too long"))?;
    let exp = exp.duration_since(UNIX_EPOCH).map_err(Failure::failed)?.as_secs();
    let sub = UserId::parse(&wanted.user).map_err(Failure::failed)?;
    let rooms = wanted.rooms.limited_to(&wanted.can);
    let claims = Claims { sub, exp, name: wanted.name, avatar_url: None, rooms };
    out.line(&TokenKey::new(wanted.jwt_secret).mint(&claims))
}
