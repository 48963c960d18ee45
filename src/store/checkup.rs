//! What `headcount doctor` asks of a database, as the role that will serve. It changes nothing.
//!
//! Each question is a transaction of its own that is rolled back, so that it works behind a pooler in transaction mode,
//! and so that one which the role may not ask does not spoil the next.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, Executor, FromRow};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout, timeout_at};

use super::listen::CHANNEL;
use super::overview::{PEERS, Peer};

/// Connecting takes no longer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A notification that takes longer does not come.
const HEAR_MAX: Duration = Duration::from_secs(2);

/// What the connection is called: nothing that looks like a replica's.
const NAME: &str = "headcount_doctor";

/// Why there is no connection.
#[derive(Debug)]
pub enum Unreachable {
    /// Nobody listens there.
    Refused,
    /// The name of the host means nothing here.
    UnknownHost,
    /// There is no such socket.
    NoSocket,
    /// Nothing is said.
    Late,
    /// A wrong password, or a role that does not exist: Postgres does not tell them apart.
    Password,
    /// There is no such role.
    NoRole,
    /// `pg_hba.conf` does not let the role in from here, or not like this.
    NotAdmitted(String),
    /// There is no such database.
    NoDatabase,
    /// The server does not speak TLS.
    NoTls,
    /// Its certificate is not to be believed.
    Untrusted(String),
    /// All connections are taken.
    Full,
    /// It starts up or shuts down.
    Busy,
    /// Anything else.
    Other(String),
}

/// The schema, against what this program needs.
#[derive(Debug, PartialEq, Eq)]
pub enum Schema {
    /// Up to date; the newest migration.
    Current(i64),
    /// There is none.
    Absent,
    /// The role may not even look.
    Forbidden,
    /// These migrations are missing.
    Behind(Vec<i64>),
    /// These are there and not known to this program.
    Ahead(Vec<i64>),
    /// These are not what they are here.
    Altered(Vec<i64>),
}

/// What the server is like.
#[derive(Debug, FromRow)]
pub struct ServerFacts {
    /// 150018 for 15.18.
    pub version: i32,
    /// Whether it is a standby.
    pub standby: bool,
    /// Connections that this role may have; -1 for any number.
    pub role_max: i32,
    /// Connections that this database may have; -1 for any number.
    pub database_max: i32,
    /// Connections that there are.
    pub connections: i64,
}

/// The sweep.
#[derive(Debug, FromRow)]
pub struct SweepState {
    /// Milliseconds since the last one, by any replica.
    pub age_ms: i64,
    /// Whether departures are being spread after an outage.
    pub recovering: bool,
    /// Live sessions, and those that only a sweep will end.
    pub sessions: i64,
}

/// A session that holds a transaction open and does nothing.
#[derive(Debug, FromRow)]
pub struct Idler {
    /// Its process.
    pub pid: i32,
    /// What it calls itself.
    pub name: String,
    /// For how long.
    pub seconds: i64,
}

const SCHEMA: &str = "select has_schema_privilege(n.oid, 'usage') as usage, c.oid is not null as ours, \
            coalesce(has_table_privilege(c.oid, 'select'), false) as readable \
     from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relname = 'migrations' \
     where n.nspname = 'headcount'";

const MIGRATIONS: &str = "select version, checksum from headcount.migrations where success order by version";

// What a service needs is what its grant names: that function is the one list there is.
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

// Of others' sessions a role sees what they do only with the right to; without it, there are none.
const IDLERS: &str = "select pid, application_name as name, \
            extract(epoch from clock_timestamp() - state_change)::bigint as seconds \
     from pg_stat_activity \
     where datname = current_database() and state like 'idle in transaction%' and pid <> pg_backend_pid() \
           and state_change < clock_timestamp() - interval '1 min' \
     order by state_change limit 3";

/// A connection that asks questions.
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

    /// What the role lacks of what a service needs, as it would be granted.
    pub async fn missing_rights(&mut self) -> Result<Vec<String>, sqlx::Error> {
        Ok(self.ask::<(String,)>(RIGHTS).await?.into_iter().map(|(missing,)| missing).collect())
    }

    /// What the server is like.
    pub async fn server(&mut self) -> Result<ServerFacts, sqlx::Error> {
        self.one(SERVER).await
    }

    /// The server's settings, as they are for this role in this database.
    pub async fn settings(&mut self) -> Result<BTreeMap<String, String>, sqlx::Error> {
        Ok(self.ask("select name, setting from pg_settings").await?.into_iter().collect())
    }

    /// The database's clock.
    pub async fn now(&mut self) -> Result<OffsetDateTime, sqlx::Error> {
        Ok(self.one::<(OffsetDateTime,)>("select clock_timestamp()").await?.0)
    }

    /// How the sweep does.
    pub async fn sweep(&mut self) -> Result<SweepState, sqlx::Error> {
        self.one(SWEEP).await
    }

    /// The replicas that are connected.
    pub async fn peers(&mut self) -> Result<Vec<Peer>, sqlx::Error> {
        self.ask(PEERS).await
    }

    /// Who holds a transaction open.
    pub async fn idlers(&mut self) -> Result<Vec<Idler>, sqlx::Error> {
        self.ask(IDLERS).await
    }

    /// Says something on the channel that only a listener of ours would know.
    async fn notify(&mut self, nonce: &str) -> Result<(), sqlx::Error> {
        let nonce = nonce.replace('\'', "");
        let notify = format!("select pg_notify('{CHANNEL}', '{nonce}')");
        self.connection.execute(AssertSqlSafe(notify)).await.map(drop)
    }
}

/// Listens by one connection and notifies by another, as a replica does. Gives how long it took; none if nothing came.
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
    // A `?` cannot be in a room's key: no replica takes this for a hint.
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

    /// A pooler has one code for whatever a client did wrong, and says in words what it is.
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
