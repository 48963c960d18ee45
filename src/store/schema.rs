//! Brings the database's schema up to date while replicas serve from it, old ones and new ones.
//!
//! Whoever wants a table that a migration waits for queues behind it, so a long read (a dump) would stop every replica.
//! Hence a migration waits for no lock longer than [`LOCK_MAX`] and is then tried again, whole, for [`PATIENCE`].

use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::rules::{self, Rules};

/// A migration waits this long for a table. Twice what replicas wait: of the two, they give up, and ask again.
const LOCK_MAX: Duration = Duration::from_millis(500);

/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// After this long somebody must look who holds what.
const PATIENCE: Duration = Duration::from_secs(120);

/// Any number: replicas that start together wait here for one another, however long the migrations take.
const LOCK: i64 = 0x6865_6164_636f_756e;

/// Brings the schema up to date: its state by migrations, its functions by [`rules`]. If both are current or newer, this
/// only reads `headcount.migrations` and `headcount.rules`, all that the role of a service may do. Newer schemas stay
/// compatible, so an older replica can start.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), MigrateError> {
    migrate_to(options, &Rules::of_this_build()).await
}

/// The same, with functions of another build.
pub async fn migrate_to(options: &PgConnectOptions, rules: &Rules) -> Result<(), MigrateError> {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name("headcount.migrations"); // "dangerous" when changed later; it was never another
    let give_up = Instant::now() + PATIENCE;
    loop {
        match attempt(&mut migrator, rules, options).await {
            Err(error) if is_held(&error) && Instant::now() < give_up => {
                tracing::warn!(%error, "somebody holds a table that a migration needs; it is tried again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            done => return done,
        }
    }
}

async fn attempt(
    migrator: &mut Migrator,
    rules: &Rules,
    options: &PgConnectOptions,
) -> Result<(), MigrateError> {
    let mut connection = PgConnection::connect_with(options).await?;
    let limit = format!("set lock_timeout = {}", LOCK_MAX.as_millis());
    connection.execute(AssertSqlSafe(limit.as_str())).await?;
    let migrated = is_current(migrator, &mut connection).await;
    if migrated && rules::are_current(rules, &mut connection).await {
        return Ok(());
    }
    let turn = format!("set lock_timeout = 0; select pg_advisory_lock({LOCK}); {limit}");
    connection.execute(AssertSqlSafe(turn)).await?;
    if !migrated {
        run(migrator, &mut connection).await?;
    }
    rules::load(rules, &mut connection).await.map_err(MigrateError::Execute)
}

async fn run(migrator: &mut Migrator, connection: &mut PgConnection) -> Result<(), MigrateError> {
    // Only when it is missing: `create schema if not exists` wants the right to create one even when it exists.
    let there: bool = sqlx::query_scalar("select to_regnamespace('headcount') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        migrator.create_schema("headcount");
    }
    migrator.run(connection).await
}

/// Whether all migrations of this build ran, as they are here.
async fn is_current(migrator: &Migrator, connection: &mut PgConnection) -> bool {
    let ran: Result<Vec<(i64, Vec<u8>)>, _> =
        sqlx::query_as("select version, checksum from headcount.migrations where success order by version")
            .fetch_all(connection)
            .await;
    let Ok(ran) = ran else { return false };
    let newest = migrator.iter().map(|migration| migration.version).max();
    let (known, newer): (Vec<_>, Vec<_>) = ran.into_iter().partition(|(version, _)| Some(*version) <= newest);
    let wanted = migrator.iter().map(|migration| (migration.version, migration.checksum.to_vec()));
    let current = known.into_iter().eq(wanted);
    if let (true, Some((version, _))) = (current, newer.last()) {
        tracing::info!("the schema is newer than this build: at migration {version}");
    }
    current
}

/// Lets a role serve, and nothing else.
pub async fn grant(options: &PgConnectOptions, role: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    sqlx::query("select headcount.grant_to_service($1)").bind(role).execute(&mut connection).await.map(drop)
}

/// Whether a migration failed because the role may not change the schema.
pub fn is_forbidden(error: &MigrateError) -> bool {
    is_one_of(error, &["42501"])
}

/// Whether a migration failed because nobody answered, so that waiting may help.
pub fn is_away(error: &MigrateError) -> bool {
    matches!(cause(error), Some(sqlx::Error::Io(_))) || is_one_of(error, &["57P03", "53300", "57P01"])
}

/// Whether a migration failed because somebody held what it needs.
fn is_held(error: &MigrateError) -> bool {
    is_one_of(error, &["55P03", "40P01"])
}

fn is_one_of(error: &MigrateError, sqlstates: &[&str]) -> bool {
    match cause(error) {
        Some(sqlx::Error::Database(database)) => {
            database.code().is_some_and(|code| sqlstates.contains(&code.as_ref()))
        }
        _ => false,
    }
}

fn cause(error: &MigrateError) -> Option<&sqlx::Error> {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Some(error),
        _ => None,
    }
}
