//! The rules of presence: the SQL functions in `migrations/functions/`, and how they reach the database.
//!
//! Functions are code. All of them are loaded whenever they differ from those in the database, in one transaction
//! under the migration lock (`schema`), unless a newer build has loaded its own. So each function is defined
//! once, and is edited in place.
//!
//! The race to avoid: a statement that calls several functions must not find only some of them replaced. So every such
//! statement reads `headcount.rules` first, and the loader locks that table before it commits. The loader waits for
//! calls that run. Calls that come meanwhile wait for the loader, 150 ms at most, before they look up any function.

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

/// Lock timeout of the loader, after which it is retried. Calls that queue behind it wait no longer than this, which is
/// within their own lock timeout of 250 ms.
const GATE_MAX: &str = "150 ms";

/// One set of functions.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Rises with every change of the functions. A build does not replace functions of a higher revision.
    pub revision: i32,
    /// The SQL files, in an order in which each finds the functions that it names.
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
    /// The functions of this build. `make rules` writes the revision and the checksum; a test compares them with the
    /// files.
    pub fn of_this_build() -> Self {
        let revision = include_str!("../../migrations/functions/revision");
        Self {
            revision: revision.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default(),
            files: functions![
                "values",
                "epoch",
                "member",
                "leases",
                "lock",
                "log",
                "room_settings",
                "decide",
                "access",
                "carry_out",
                "newcomers",
                "apply",
                "profiles",
                "heartbeat",
                "sweep",
                "trim",
                "days",
                "erase",
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
            hash.update([0]); // so that moving a line to the next file changes the sum
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn replace(&self, (revision, checksum): &(i32, String)) -> bool {
        *revision <= self.revision && *checksum != self.checksum()
    }
}

/// The fast path of a start, which takes no lock: whether the loaded functions are these, or a newer build's.
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

/// Loads the functions if [`are_current`] is still false. needs: the migration lock. Fails with `lock_not_available`
/// if a running call does not end in time; then nothing has changed.
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
         lock table headcount.users, headcount.room_settings, headcount.revocations in exclusive mode"
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

/// Roles that were granted rights, and the function that granted them. It is run again for the new functions.
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
