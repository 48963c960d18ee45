//! The rules of presence: the SQL functions in `migrations/functions/`, and how they reach the database.
//!
//! Functions are code. They are loaded whole whenever they differ from those in the database, in one transaction under
//! the migration lock, unless a newer build has loaded its own. So each function stands once, and is edited in place.
//!
//! A statement that calls several functions must not find half of them replaced. So every such statement reads
//! `headcount.rules` first, and the loader locks that table before it commits: it waits for calls that run, and the
//! calls that come meanwhile wait for it, 150 ms at most, before they have looked up any function.

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

/// The loader waits this long for calls that run, and is then tried again: whoever queues behind it waits no longer,
/// and a call of the service waits 250 ms for a lock.
const GATE_MAX: &str = "150 ms";

/// One set of functions.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Rises with every change of the functions. A build leaves a higher one alone.
    pub revision: i32,
    /// The files, each complete SQL, in an order in which each finds what it names.
    pub files: Vec<&'static str>,
    /// The last file, which needs the tables that it names locked.
    pub triggers: &'static str,
}

macro_rules! functions {
    ($($name:literal),* $(,)?) => {
        vec![$(include_str!(concat!("../../migrations/functions/", $name, ".sql"))),*]
    };
}

impl Rules {
    /// Those of this build. `make rules` writes the revision and the checksum; a test compares them with the files.
    pub fn of_this_build() -> Self {
        let revision = include_str!("../../migrations/functions/revision");
        Self {
            revision: revision.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default(),
            files: functions![
                "epoch",
                "member",
                "leases",
                "lock",
                "log",
                "room_settings",
                "decide",
                "carry_out",
                "newcomers",
                "apply",
                "profiles",
                "heartbeat",
                "sweep",
                "trim",
                "days",
                "history",
                "webhooks",
                "planner",
                "rights",
            ],
            triggers: include_str!("../../migrations/functions/triggers.sql"),
        }
    }

    /// SHA-256 of all files, in hexadecimal digits.
    pub fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        for file in self.files.iter().chain([&self.triggers]) {
            hash.update(file.as_bytes());
            hash.update([0]); // so that a line that moves from one file to the next counts
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn replace(&self, (revision, checksum): &(i32, String)) -> bool {
        *revision <= self.revision && *checksum != self.checksum()
    }
}

/// Whether nothing is to be loaded: the functions are these, or a newer build's.
pub async fn are_current(rules: &Rules, connection: &mut PgConnection) -> bool {
    let Ok(stored) = stored(connection).await else { return false };
    if stored.0 > rules.revision {
        tracing::info!("the rules are newer than this build: revision {}", stored.0);
    }
    !rules.replace(&stored)
}

async fn stored(connection: &mut PgConnection) -> Result<(i32, String), sqlx::Error> {
    sqlx::query_as("select revision, checksum from headcount.rules").fetch_one(connection).await
}

/// Loads the functions where [`are_current`] is false. needs: the migration lock. Fails with `lock_not_available`
/// where a call does not end in time; nothing is changed then.
pub async fn load(rules: &Rules, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if !rules.replace(&stored(&mut transaction).await?) {
        return Ok(());
    }
    let granted = granted(&mut transaction).await?;
    for file in &rules.files {
        transaction.execute(*file).await?;
    }
    let gate = format!(
        "set local lock_timeout = '{GATE_MAX}'; \
         lock table headcount.rules in access exclusive mode; \
         lock table headcount.users, headcount.room_settings in exclusive mode"
    );
    transaction.execute(AssertSqlSafe(gate)).await?;
    transaction.execute(rules.triggers).await?;
    for (grant, role) in granted {
        sqlx::query(AssertSqlSafe(format!("select headcount.{grant}($1)")))
            .bind(role)
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query("update headcount.rules set revision = $1, checksum = $2, loaded_at = clock_timestamp()")
        .bind(rules.revision)
        .bind(rules.checksum())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// Roles that were granted something, and by which function: they go on with what there is now.
async fn granted(connection: &mut PgConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select distinct case p.proname when 'apply' then 'grant_to_service' else 'grant_to_application' end, \
                r.rolname::text \
         from pg_proc p \
         cross join lateral aclexplode(p.proacl) a \
         join pg_roles r on r.oid = a.grantee \
         where p.pronamespace = 'headcount'::regnamespace and p.proname in ('apply', 'join') \
           and a.grantee <> p.proowner",
    )
    .fetch_all(connection)
    .await
}
