//! The health checks of a database that `headcount doctor` runs, as the role that will serve. Read-only.
//!
//! Each query has its own transaction, which is rolled back. So it works behind a pooler in transaction mode, and a
//! query that the role is not permitted to run does not abort the next.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, Executor, FromRow};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout, timeout_at};

use super::listen::CHANNEL;
use super::overview::{PEERS, Peer};
use super::rules::Rules;

/// Timeout for connecting.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A notification that has not arrived by then counts as lost.
const HEAR_MAX: Duration = Duration::from_secs(2);

/// `application_name` of the connection. It must not match the pattern by which replicas are found.
const NAME: &str = "headcount_doctor";

/// Why there is no connection.
#[derive(Debug)]
pub enum Unreachable {
    /// Nothing listens on that port.
    Refused,
    /// The host name does not resolve.
    UnknownHost,
    /// The Unix socket does not exist.
    NoSocket,
    /// No answer before the timeout.
    Late,
    /// A wrong password, or a role that does not exist: Postgres reports both alike.
    Password,
    /// The role does not exist.
    NoRole,
    /// `pg_hba.conf` does not admit the role from this address, or not with this method.
    NotAdmitted(String),
    /// The database does not exist.
    NoDatabase,
    /// The server does not speak TLS.
    NoTls,
    /// Its certificate is not trusted.
    Untrusted(String),
    /// The server has reached its connection limit.
    Full,
    /// The server is starting up or shutting down.
    Busy,
    /// Anything else.
    Other(String),
}

/// State of the schema, compared with the migrations of this build.
#[derive(Debug, PartialEq, Eq)]
pub enum Schema {
    /// Up to date; the version of the newest migration.
    Current(i64),
    /// There is no schema.
    Absent,
    /// The role may not read it.
    Forbidden,
    /// These migrations are missing.
    Behind(Vec<i64>),
    /// These migrations have run and are unknown to this build.
    Ahead(Vec<i64>),
    /// The checksums of these migrations differ from this build's.
    Altered(Vec<i64>),
}

/// Revision of the loaded SQL functions, compared with those of this build.
#[derive(Debug, PartialEq, Eq)]
pub enum Functions {
    /// The same.
    Current(i32),
    /// Those of an older build, or altered: the next start of this build, or `headcount migrate`, replaces them.
    Behind(i32),
    /// Those of a newer build, which this build uses as they are.
    Ahead(i32),
}

/// Version and limits of the server.
#[derive(Debug, FromRow)]
pub struct ServerFacts {
    /// `server_version_num`: 150018 for 15.18.
    pub version: i32,
    /// Whether it is a standby.
    pub standby: bool,
    /// Connection limit of this role; -1 for none.
    pub role_max: i32,
    /// Connection limit of this database; -1 for none.
    pub database_max: i32,
    /// Client connections that are open now.
    pub connections: i64,
}

/// State of the sweep.
#[derive(Debug, FromRow)]
pub struct SweepState {
    /// Milliseconds since the last sweep by any replica.
    pub age_ms: i64,
    /// Whether departures are throttled after an outage.
    pub recovering: bool,
    /// Sessions: live ones, and expired ones that the next sweep will end.
    pub sessions: i64,
}

/// A server session that is idle in a transaction.
#[derive(Debug, FromRow)]
pub struct Idler {
    /// Its process id.
    pub pid: i32,
    /// Its `application_name`.
    pub name: String,
    /// How many seconds it has been idle.
    pub seconds: i64,
}

const SCHEMA: &str = "select has_schema_privilege(n.oid, 'usage') as usage, c.oid is not null as ours, \
            coalesce(has_table_privilege(c.oid, 'select'), false) as readable \
     from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relname = 'migrations' \
     where n.nspname = 'headcount'";

const MIGRATIONS: &str = "select version, checksum from headcount.migrations where success order by version";

const RULES: &str = "select revision, checksum from headcount.rules";

// Parses the source of `grant_to_service`, which is the only list of the rights that a service needs.
const RIGHTS: &str = "with granted as ( \
         select part \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace, \
              regexp_split_to_table(p.prosrc, '\\mgrant ') part \
         where n.nspname = 'headcount' and p.proname = 'grant_to_service' \
     ), needed as ( \
         select distinct part like 'select%' as is_read, found[1] as name \
         from granted, regexp_matches(part, 'headcount\\.([a-z_]+)', 'g') found \
         where part ~ '^(select|execute)' \
     ) \
     select 'select on headcount.' || c.relname as missing \
     from needed join pg_class c on is_read and c.relname = needed.name \
     join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'headcount' \
     where c.relkind in ('r', 'p', 'v') and not has_any_column_privilege(c.oid, 'select') \
     union all \
     select 'execute on headcount.' || p.proname \
     from needed join pg_proc p on not is_read and p.proname = needed.name \
     join pg_namespace n on n.oid = p.pronamespace and n.nspname = 'headcount' \
     where not has_function_privilege(p.oid, 'execute') \
     order by 1";

const SERVER: &str = "select current_setting('server_version_num')::int as version, pg_is_in_recovery() as standby, \
            r.rolconnlimit as role_max, d.datconnlimit as database_max, \
            (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections \
     from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()";

const SWEEP: &str = "select (extract(epoch from clock_timestamp() - last_sweep_at) * 1000)::bigint as age_ms, recovering, \
            (select count(*) from headcount.presence) as sessions \
     from headcount.sweep_state";

// Without `pg_read_all_stats` a role does not see the state of other roles' sessions, and this finds none of them.
const IDLERS: &str = "select pid, application_name as name, \
            extract(epoch from clock_timestamp() - state_change)::bigint as seconds \
     from pg_stat_activity \
     where datname = current_database() and state like 'idle in transaction%' and pid <> pg_backend_pid() \
           and state_change < clock_timestamp() - interval '1 min' \
     order by state_change limit 3";

/// A connection that runs the health checks.
pub struct Checkup {
    connection: PgConnection,
}

impl Checkup {
    /// Connects.
    pub async fn open(options: &PgConnectOptions) -> Result<Self, Unreachable> {
        let options = options.clone().application_name(NAME);
        match timeout(CONNECT_MAX, PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => Ok(Self { connection }),
            Ok(Err(error)) => Err(Unreachable::of(&error)),
            Err(_) => Err(Unreachable::Late),
        }
    }

    async fn ask<T>(&mut self, statement: &'static str) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.connection.execute("begin read only; set local statement_timeout = '5s'").await?;
        let answer = sqlx::query_as(statement).persistent(false).fetch_all(&mut self.connection).await;
        self.connection.execute("rollback").await?;
        answer
    }

    async fn one<T>(&mut self, statement: &'static str) -> Result<T, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.ask(statement).await?.pop().ok_or(sqlx::Error::RowNotFound)
    }

    /// Compares the schema with the migrations of this program.
    pub async fn schema(&mut self) -> Result<Schema, sqlx::Error> {
        let (usage, ours, readable) = match self.ask::<(bool, bool, bool)>(SCHEMA).await?.pop() {
            Some(found) => found,
            None => return Ok(Schema::Absent),
        };
        if !ours {
            return Ok(Schema::Absent);
        }
        if !usage || !readable {
            return Ok(Schema::Forbidden);
        }
        let ran: BTreeMap<i64, Vec<u8>> = self.ask(MIGRATIONS).await?.into_iter().collect();
        let migrator = sqlx::migrate!();
        let known: BTreeMap<i64, Vec<u8>> =
            migrator.iter().map(|migration| (migration.version, migration.checksum.to_vec())).collect();
        Ok(compare(&ran, &known))
    }

    /// Compares the loaded SQL functions with those of this program.
    pub async fn functions(&mut self) -> Result<Functions, sqlx::Error> {
        let ours = Rules::of_this_build();
        let (revision, checksum): (i32, String) = self.one(RULES).await?;
        Ok(if revision > ours.revision {
            Functions::Ahead(revision)
        } else if checksum == ours.checksum() {
            Functions::Current(revision)
        } else {
            Functions::Behind(revision)
        })
    }

    /// The rights that a service needs and the role lacks, each worded as in a `grant`.
    pub async fn missing_rights(&mut self) -> Result<Vec<String>, sqlx::Error> {
        Ok(self.ask::<(String,)>(RIGHTS).await?.into_iter().map(|(missing,)| missing).collect())
    }

    /// Version and limits of the server.
    pub async fn server(&mut self) -> Result<ServerFacts, sqlx::Error> {
        self.one(SERVER).await
    }

    /// The server's settings, as they apply to this role in this database.
    pub async fn settings(&mut self) -> Result<BTreeMap<String, String>, sqlx::Error> {
        Ok(self.ask("select name, setting from pg_settings").await?.into_iter().collect())
    }

    /// The database's clock.
    pub async fn now(&mut self) -> Result<OffsetDateTime, sqlx::Error> {
        Ok(self.one::<(OffsetDateTime,)>("select clock_timestamp()").await?.0)
    }

    /// State of the sweep.
    pub async fn sweep(&mut self) -> Result<SweepState, sqlx::Error> {
        self.one(SWEEP).await
    }

    /// The replicas that are connected.
    pub async fn peers(&mut self) -> Result<Vec<Peer>, sqlx::Error> {
        self.ask(PEERS).await
    }

    /// Server sessions that have been idle in a transaction for more than a minute: the three oldest.
    pub async fn idlers(&mut self) -> Result<Vec<Idler>, sqlx::Error> {
        self.ask(IDLERS).await
    }

    /// Sends a nonce on the channel, which only our own listener recognizes.
    async fn notify(&mut self, nonce: &str) -> Result<(), sqlx::Error> {
        let nonce = nonce.replace('\'', "");
        let notify = format!("select pg_notify('{CHANNEL}', '{nonce}')");
        self.connection.execute(AssertSqlSafe(notify)).await.map(drop)
    }
}

/// Listens on one connection and notifies on another, as a replica does. Returns the delay; none if nothing arrived.
pub async fn hears(
    listening: &PgConnectOptions,
    notifying: &mut Checkup,
) -> Result<Option<Duration>, Unreachable> {
    let options = listening.clone().application_name(NAME);
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_MAX).connect_lazy_with(options);
    let opening = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok::<_, sqlx::Error>(listener)
    };
    let opened = timeout(CONNECT_MAX, opening).await.map_err(|_| Unreachable::Late)?;
    let mut listener = opened.map_err(|error| Unreachable::of(&error))?;
    // A room's key cannot contain `?`, so no replica takes this for a hint.
    let nonce = format!("?doctor {}", uuid::Uuid::new_v4());
    let began = Instant::now();
    notifying.notify(&nonce).await.map_err(|error| Unreachable::of(&error))?;
    loop {
        match timeout_at(began + HEAR_MAX, listener.try_recv()).await {
            Ok(Ok(Some(heard))) if heard.payload() == nonce => return Ok(Some(began.elapsed())),
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) | Err(_) => return Ok(None),
            Ok(Err(error)) => return Err(Unreachable::of(&error)),
        }
    }
}

fn compare(ran: &BTreeMap<i64, Vec<u8>>, known: &BTreeMap<i64, Vec<u8>>) -> Schema {
    let without = |of: &BTreeMap<i64, Vec<u8>>, others: &BTreeMap<i64, Vec<u8>>| -> Vec<i64> {
        of.keys().filter(|version| !others.contains_key(version)).copied().collect()
    };
    let altered: Vec<i64> = ran
        .iter()
        .filter(|(version, sum)| known.get(version).is_some_and(|known| known != *sum))
        .map(|(version, _)| *version)
        .collect();
    let (missing, unknown) = (without(known, ran), without(ran, known));
    match (altered.is_empty(), unknown.is_empty(), missing.is_empty()) {
        (false, ..) => Schema::Altered(altered),
        (_, false, _) => Schema::Ahead(unknown),
        (.., false) => Schema::Behind(missing),
        _ => Schema::Current(known.keys().last().copied().unwrap_or_default()),
    }
}

impl Unreachable {
    fn of(error: &sqlx::Error) -> Self {
        let text = error.to_string();
        match error {
            sqlx::Error::Database(database) => Self::of_server(&database.code().unwrap_or_default(), &text),
            sqlx::Error::Tls(_) if text.contains("does not support TLS") => Self::NoTls,
            _ if text.contains("certificate") => Self::Untrusted(text),
            sqlx::Error::PoolTimedOut => Self::Late,
            sqlx::Error::Io(io) => match io.kind() {
                ErrorKind::ConnectionRefused => Self::Refused,
                ErrorKind::NotFound => Self::NoSocket,
                ErrorKind::TimedOut => Self::Late,
                _ if text.contains("failed to lookup address") => Self::UnknownHost,
                _ => Self::Other(text),
            },
            _ => Self::Other(text),
        }
    }

    /// A pooler uses one code (08P01) for every client error, so the message text decides.
    fn of_server(code: &str, text: &str) -> Self {
        match code {
            "28P01" => Self::Password,
            "28000" if text.contains("pg_hba.conf") => Self::NotAdmitted(text.to_owned()),
            "28000" if text.contains("does not exist") => Self::NoRole,
            "28000" | "08P01" if text.contains("password") || text.contains("no such user") => Self::Password,
            "3D000" => Self::NoDatabase,
            "08P01" if text.contains("no such database") => Self::NoDatabase,
            "53300" => Self::Full,
            "57P01" | "57P03" => Self::Busy,
            _ => Self::Other(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_behind_ahead_altered_or_current() {
        let of = |versions: &[(i64, u8)]| versions.iter().map(|(v, sum)| (*v, vec![*sum])).collect();
        let known = of(&[(1, 1), (2, 2)]);
        assert_eq!(compare(&of(&[(1, 1), (2, 2)]), &known), Schema::Current(2));
        assert_eq!(compare(&of(&[(1, 1)]), &known), Schema::Behind(vec![2]));
        assert_eq!(compare(&of(&[(1, 1), (2, 2), (3, 3)]), &known), Schema::Ahead(vec![3]));
        assert_eq!(compare(&of(&[(1, 1), (2, 9), (3, 3)]), &known), Schema::Altered(vec![2]));
    }
}
