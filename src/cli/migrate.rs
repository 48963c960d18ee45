//! `headcount migrate`: brings the schema up to date, and lets a role serve.

use clap::Args;
use secrecy::ExposeSecret;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;

use super::failure::Failure;
use super::out::Out;
use crate::settings::Database;
use crate::store;

/// `headcount migrate`
#[derive(Args, Debug)]
pub struct MigrateArgs {
    /// Which database, as a role that may change its schema
    #[command(flatten)]
    pub database: Database,
    /// Let this role `serve`, and nothing else; repeat it after an upgrade
    #[arg(long, value_name = "ROLE")]
    pub grant_to: Option<String>,
}

/// How to recover any database but the one of `dev`.
pub const MADE_ELSEWHERE: &str = "run that build, or forget who is here and the log, and start anew: psql ... -c 'drop schema \
     headcount cascade'";

/// Migrates, then grants.
pub async fn run(wanted: &MigrateArgs, out: &mut Out) -> Result<(), Failure> {
    let url = wanted.database.url().map_err(Failure::failed)?;
    let options: PgConnectOptions = url.expose_secret().parse().map_err(Failure::failed)?;
    store::migrate(&options).await.map_err(|error| Failure::Failed(mend(&error, MADE_ELSEWHERE)))?;
    out.line("the schema is up to date")?;
    if let Some(role) = &wanted.grant_to {
        store::grant(&options, role).await.map_err(Failure::failed)?;
        out.line(&format!("{role} may serve, and nothing else"))?;
    }
    Ok(())
}

/// Adds the remedy if an unreleased build has made the schema. Migrations are edited before they are
/// released, never after.
pub fn mend(error: &MigrateError, how: &str) -> String {
    match error {
        MigrateError::VersionMismatch(version) | MigrateError::VersionMissing(version) => format!(
            "the database was made by an unreleased build, whose migration {version} is another; {how}"
        ),
        error => error.to_string(),
    }
}
