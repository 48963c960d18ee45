//! Migrates the database's schema while replicas, old and new, serve from it.
//!
//! Calls that need a table for which a migration waits queue behind it, so one long read (a dump) would stop every
//! replica. So a migration waits for a lock at most [`LOCK_MAX`]. It is then rolled back and retried, until
//! [`PATIENCE`] is over.

use std::time::{Duration, Instant};

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::rules::{self, Rules};

/// Lock timeout of a migration. Twice that of replicas, so that in a conflict they give up first, and retry.
const LOCK_MAX: Duration = Duration::from_millis(500);

/// Delay before a retry.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Retries end after this long. Then an operator must find the session that holds the lock.
const PATIENCE: Duration = Duration::from_secs(120);

/// Takes the turn of a migration: replicas that start together wait here for one another. A lock on a table of our own,
/// which only a role that may write it can take, and not an advisory lock, which any role can. The connection is one
/// of its own, because migrations commit.
const TURN: &str = "begin; set local idle_in_transaction_session_timeout = 0; \
     lock table headcount.migrations in share update exclusive mode";

/// The sessions that hold locks on our tables, the longest first.
const HOLDERS: &str = "select concat('session ', a.pid, ' of role ', a.usename, ' (', nullif(a.application_name, ''), ') holds ', \
            string_agg(distinct c.relname, ', '), ', its transaction is open for ', \
            extract(epoch from clock_timestamp() - a.xact_start)::bigint, ' s') \
     from pg_locks l join pg_class c on c.oid = l.relation join pg_stat_activity a on a.pid = l.pid \
     where l.granted and l.database = (select oid from pg_database where datname = current_database()) \
       and c.relnamespace = to_regnamespace('headcount') and c.relkind in ('r', 'p') and l.pid <> pg_backend_pid() \
     group by a.pid, a.usename, a.application_name, a.xact_start order by a.xact_start limit 5";

/// Brings the schema up to date: its state by migrations, its functions by [`rules`]. Idempotent. Fast path: if both
/// are current or newer, this only reads `headcount.migrations` and `headcount.rules`, for which the rights of a
/// service's role suffice. Newer schemas stay compatible, so an older replica can start.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), MigrateError> {
    migrate_to(options, &Rules::of_this_build()).await
}

/// Like [`migrate`], with the functions of another build.
pub async fn migrate_to(options: &PgConnectOptions, rules: &Rules) -> Result<(), MigrateError> {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name("headcount.migrations"); // "dangerous" when changed later; it was never another
    migrator.set_locking(false); // an advisory lock; see TURN
    let give_up = Instant::now() + PATIENCE;
    loop {
        match attempt(&mut migrator, rules, options).await {
            Err(error) if is_held(&error) && Instant::now() < give_up => {
                let holders = holders(options).await.unwrap_or_default().join("; ");
                tracing::warn!(%error, holders, "somebody holds a table that a migration needs; it is tried again");
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
    if is_current(migrator, &mut connection).await && rules::are_current(rules, &mut connection).await {
        return Ok(());
    }
    create(migrator, &mut connection).await?;
    let mut turn = PgConnection::connect_with(options).await?; // until this ends
    turn.execute(AssertSqlSafe(limit.as_str())).await?;
    turn.execute(TURN).await?;
    if !is_current(migrator, &mut connection).await {
        migrator.run(&mut connection).await?;
    }
    rules::load(rules, &mut connection).await.map_err(MigrateError::Execute)
}

/// Creates the schema and the table of migrations. Only when they are missing: `if not exists` needs the right to create
/// one even when it exists.
async fn create(migrator: &Migrator, connection: &mut PgConnection) -> Result<(), MigrateError> {
    let exists = |relation: &str| format!("select {relation} is not null");
    let there: bool = sqlx::query_scalar(AssertSqlSafe(exists("to_regnamespace('headcount')")))
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        connection.create_schema_if_not_exists("headcount").await?;
    }
    let there: bool = sqlx::query_scalar(AssertSqlSafe(exists("to_regclass('headcount.migrations')")))
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        connection.ensure_migrations_table(&migrator.table_name).await?;
    }
    Ok(())
}

/// Which sessions hold our tables, so that an operator finds them.
pub async fn holders(options: &PgConnectOptions) -> Result<Vec<String>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    sqlx::query_scalar(HOLDERS).fetch_all(&mut connection).await
}

/// Whether all migrations of this build have run, with the same checksums.
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

/// Grants a role the rights that a service needs, and no more.
pub async fn grant(options: &PgConnectOptions, role: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    sqlx::query("select headcount.grant_to_service($1)").bind(role).execute(&mut connection).await.map(drop)
}

/// Whether a migration failed because the role may not change the schema.
pub fn is_forbidden(error: &MigrateError) -> bool {
    is_one_of(error, &["42501"])
}

/// Whether a migration failed because the database is down, so that a retry may help.
pub fn is_away(error: &MigrateError) -> bool {
    matches!(cause(error), Some(sqlx::Error::Io(_))) || is_one_of(error, &["57P03", "53300", "57P01"])
}

/// Whether a migration failed because another session held a lock that it needs, or made the schema at the same time.
fn is_held(error: &MigrateError) -> bool {
    is_one_of(error, &["55P03", "40P01", "23505", "42P06", "42P07", "42710"])
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
