//! The database, from nearest to farthest: can it be reached, is the schema there, may the role use it, is it set up so
//! that promises hold, do notifications arrive, do the clocks agree, does a replica sweep.

use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret;
use sqlx::postgres::PgConnectOptions;
use time::OffsetDateTime;

use super::arguments::DoctorArgs;
use super::finding::{Finding, Findings};
use super::server;
use crate::cli::failure::Failure;
use crate::settings::Switch;
use crate::store::checkup::{Checkup, Functions, Schema, SweepState, Unreachable, hears};
use crate::store::{self, PoolMode};

/// Clock skew that is worth a warning, and skew at which good tokens are refused (`auth::verifier` allows 5
/// s).
const SKEW_WARN: Duration = Duration::from_secs(1);
const SKEW_MAX: Duration = Duration::from_secs(5);

/// Sweep intervals without a sweep, at most; the outage rule has the same number.
const SWEEPS_MISSED_MAX: u32 = 3;

/// Added to those: the time that a sweep itself may take.
const SWEEP_MAX: Duration = Duration::from_secs(5);

const DIRECT: &str =
    "Set HEADCOUNT_LISTEN_DATABASE_URL to the address of Postgres itself, not of the pooler.";

/// Checks the database. Returns the names of the replicas that are connected.
pub async fn look(
    wanted: &DoctorArgs,
    options: &PgConnectOptions,
    findings: &mut Findings<'_>,
) -> Result<Vec<String>, Failure> {
    let mut checkup = match Checkup::open(options).await {
        Ok(checkup) => checkup,
        Err(error) => {
            findings.add(unreachable("database", "HEADCOUNT_DATABASE_URL", options, &error))?;
            return Ok(Vec::new());
        }
    };
    findings.add(Finding::ok("database", format!("{} takes {}", place(options), options.get_username())))?;
    let schema = checkup.schema().await;
    let usable = matches!(schema, Ok(Schema::Current(_) | Schema::Behind(_) | Schema::Ahead(_)));
    findings.add(judge_schema(schema))?;
    let replicas = checkup.peers().await.unwrap_or_default();
    let replicas: Vec<String> = replicas.into_iter().map(|replica| replica.name).collect();
    if usable {
        findings.add(judge_functions(checkup.functions().await))?;
        findings.add(rights(checkup.missing_rights().await, options.get_username()))?;
    }
    findings.extend(server::look(wanted, &mut checkup, replicas.len()).await)?;
    findings.add(clock(&mut checkup).await)?;
    findings.add(listen(wanted, options, &mut checkup).await)?;
    if usable {
        findings.add(sweep(wanted, checkup.sweep().await, replicas.len()))?;
    }
    Ok(replicas)
}

fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{database} at {}", socket.display()),
        None => format!("{database} at {}:{}", options.get_host(), options.get_port()),
    }
}

/// The finding about a database that cannot be reached. `variable` holds its address.
fn unreachable(
    check: &'static str,
    variable: &str,
    options: &PgConnectOptions,
    error: &Unreachable,
) -> Finding {
    let (place, role) = (place(options), options.get_username());
    let (host, database) = (options.get_host(), options.get_database().unwrap_or(role));
    let (says, mend) = match error {
        Unreachable::Refused => (
            format!("nobody listens at {place}"),
            format!("Start Postgres there, or correct host and port in {variable}."),
        ),
        Unreachable::UnknownHost => {
            (format!("no address is known for {host}"), format!("Correct the host in {variable}."))
        }
        Unreachable::NoSocket => (
            format!("there is no socket of Postgres for {place}"),
            format!("Start Postgres, or correct the directory of its socket in {variable}."),
        ),
        Unreachable::Late => (
            format!("{place} does not answer"),
            format!("Let this machine through the firewall to {host}, or correct host and port in {variable}."),
        ),
        Unreachable::Password => (
            format!("{place} does not take the password of {role}"),
            format!("Correct role and password in {variable} (`alter role \"{role}\" password '...'` sets a new one)."),
        ),
        Unreachable::NoRole => (
            format!("{place} knows no role {role}"),
            format!("Make it (`create role \"{role}\" login password '...'`), or correct the role in {variable}."),
        ),
        Unreachable::NotAdmitted(reason) => (
            format!("{place} does not let {role} in: {reason}"),
            format!("Add a line for {role} and this machine to pg_hba.conf; if it asks for encryption, add ?sslmode=require to {variable}."),
        ),
        Unreachable::NoDatabase => (
            format!("there is no database {database} at {place}"),
            format!("Make it (`create database \"{database}\"`), or correct its name in {variable}."),
        ),
        Unreachable::NoTls => (
            format!("{place} does not speak TLS, which sslmode asks for"),
            format!("Switch ssl on in Postgres, or, within a network that you trust, say sslmode=disable in {variable}."),
        ),
        Unreachable::Untrusted(reason) => (
            format!("the certificate of {place} cannot be believed: {reason}"),
            format!("Name the authority's file by sslrootcert in {variable}, and the host as its certificate names it."),
        ),
        Unreachable::Full => (
            format!("{place} has no connection to spare"),
            "Raise max_connections of Postgres, or lower HEADCOUNT_DATABASE_CONNECTIONS or the number of replicas.".into(),
        ),
        Unreachable::Busy => (format!("{place} starts up or shuts down"), "Wait until Postgres has started, and look again.".into()),
        Unreachable::Other(reason) => {
            (format!("{place} cannot be used: {reason}"), format!("Correct {variable}, or what the reason names."))
        }
    };
    Finding::fail(check, says, mend)
}

fn judge_schema(schema: Result<Schema, sqlx::Error>) -> Finding {
    let list = |versions: &[i64]| {
        let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
        format!("migration{} {}", if versions.len() == 1 { "" } else { "s" }, versions.join(", "))
    };
    const MIGRATE: &str =
        "Run `headcount migrate --grant-to ROLE` as the schema's owner, with the role that serves.";
    match schema {
        Ok(Schema::Current(newest)) => Finding::ok("schema", format!("up to date, at migration {newest}")),
        Ok(Schema::Absent) => Finding::fail("schema", "there is none in this database", MIGRATE),
        Ok(Schema::Forbidden) => {
            Finding::fail("schema", "it is there, and this role may not look at it", MIGRATE)
        }
        Ok(Schema::Behind(missing)) => {
            Finding::fail("schema", format!("{} missing", list(&missing)), MIGRATE)
        }
        Ok(Schema::Ahead(unknown)) => Finding::fail(
            "schema",
            format!("newer than this program, which does not know {}", list(&unknown)),
            "Use the newer headcount that made it; this one runs on, but does not start again.",
        ),
        Ok(Schema::Altered(altered)) => Finding::fail(
            "schema",
            format!("{} not what this program has under that number", list(&altered)),
            "Use the headcount that made this schema, or another database.",
        ),
        Err(error) => Finding::of_query("schema", &error),
    }
}

fn judge_functions(functions: Result<Functions, sqlx::Error>) -> Finding {
    match functions {
        Ok(Functions::Current(revision)) => {
            Finding::ok("functions", format!("those of this program, revision {revision}"))
        }
        Ok(Functions::Ahead(revision)) => Finding::ok(
            "functions",
            format!("those of a newer headcount, revision {revision}, which this one uses"),
        ),
        Ok(Functions::Behind(revision)) => Finding::warn(
            "functions",
            format!("not those of this program: revision {revision}"),
            "Start this version of `headcount serve` as the schema's owner, or run `headcount migrate`: both replace them.",
        ),
        Err(error) => Finding::of_query("functions", &error),
    }
}

fn rights(missing: Result<Vec<String>, sqlx::Error>, role: &str) -> Finding {
    match missing {
        Ok(missing) if missing.is_empty() => {
            Finding::ok("rights", format!("{role} may do what serving needs"))
        }
        Ok(missing) => Finding::fail(
            "rights",
            format!("{role} lacks {} of what serving needs: {}", missing.len(), shortened(&missing)),
            format!("Run `headcount migrate --grant-to {role}` as the schema's owner."),
        ),
        Err(error) => Finding::of_query("rights", &error),
    }
}

fn shortened(missing: &[String]) -> String {
    let more = if missing.len() > 3 { ", ..." } else { "" };
    format!("{}{more}", missing.iter().take(3).cloned().collect::<Vec<_>>().join(", "))
}

/// Checks notifications as the listener does: one that is sent through a connection must arrive on another.
async fn listen(wanted: &DoctorArgs, options: &PgConnectOptions, checkup: &mut Checkup) -> Finding {
    if wanted.tuning.listener == Switch::Off {
        return Finding::warn(
            "listen",
            "switched off: what other replicas change is found by a poll, up to 2 s later",
            "Set HEADCOUNT_LISTENER=on, unless this is meant.",
        );
    }
    let direct = match wanted.listening.url().map(|url| url.expose_secret().parse()) {
        None => None,
        Some(Ok(direct)) => Some(direct),
        Some(Err(_)) => {
            let says = "HEADCOUNT_LISTEN_DATABASE_URL is no address of a database";
            return Finding::fail("listen", says, "Write it as postgres://user:password@host:port/database.");
        }
    };
    let (variable, way) = if direct.is_some() {
        ("HEADCOUNT_LISTEN_DATABASE_URL", "HEADCOUNT_LISTEN_DATABASE_URL")
    } else {
        ("HEADCOUNT_DATABASE_URL", "HEADCOUNT_DATABASE_URL, and HEADCOUNT_LISTEN_DATABASE_URL is not set")
    };
    let listening = direct.as_ref().unwrap_or(options);
    if store::pool_mode(listening).await == Some(PoolMode::Pooled) {
        let says = format!("a pooler in transaction mode is behind {way}: nobody can listen through it");
        return Finding::fail("listen", says, DIRECT);
    }
    match hears(listening, checkup).await {
        Ok(Some(took)) => Finding::ok(
            "listen",
            format!("a notification came back after {:.1} ms", took.as_secs_f64() * 1000.0),
        ),
        Ok(None) => {
            Finding::fail("listen", format!("a notification did not come back through {variable}"), DIRECT)
        }
        Err(error) => unreachable("listen", variable, listening, &error),
    }
}

async fn clock(checkup: &mut Checkup) -> Finding {
    let before = SystemTime::now();
    match checkup.now().await {
        // Half of the round trip: assume that the clock was read in the middle of it.
        Ok(database) => {
            let here = before + before.elapsed().unwrap_or_default() / 2;
            judge_clock("clock", "this machine's clock", OffsetDateTime::from(here) - database)
        }
        Err(error) => Finding::of_query("clock", &error),
    }
}

/// Judges clock skew. The database's clock decides which leases have run out; the replica's, which tokens
/// have expired.
pub(super) fn judge_clock(check: &'static str, whose: &str, ahead: time::Duration) -> Finding {
    let off = ahead.unsigned_abs();
    let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
    let says = format!("{whose} is {:.1} s {direction} the database's", off.as_secs_f64());
    let mend = "Let both machines take their time from NTP (timedatectl set-ntp true).";
    if off > SKEW_MAX {
        Finding::fail(check, format!("{says}: tokens are taken for expired, or good for too long"), mend)
    } else if off > SKEW_WARN {
        Finding::warn(check, says, mend)
    } else {
        Finding::ok(check, says)
    }
}

fn sweep(wanted: &DoctorArgs, sweep: Result<SweepState, sqlx::Error>, replicas: usize) -> Finding {
    let SweepState { age_ms, recovering, sessions } = match sweep {
        Ok(sweep) => sweep,
        Err(error) => return Finding::of_query("sweep", &error),
    };
    let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
    let ago =
        format!("the last one was {} ago", humantime::format_duration(Duration::from_secs(age.as_secs())));
    if age > wanted.tuning.sweep_interval * SWEEPS_MISSED_MAX + SWEEP_MAX {
        return nobody_sweeps(wanted, &ago, sessions, replicas);
    }
    if recovering {
        let says = format!("{ago}, and departures are being spread after an outage");
        return Finding::warn(
            "sweep",
            says,
            "Wait a lease; if it stays so, look for what keeps the sweep from catching up in the log.",
        );
    }
    Finding::ok("sweep", ago)
}

/// Nobody sweeps. That is expected before the first start, and a failure if a replica is connected, a service
/// is named, or sessions are left.
fn nobody_sweeps(wanted: &DoctorArgs, ago: &str, sessions: i64, replicas: usize) -> Finding {
    if replicas > 0 {
        return Finding::fail(
            "sweep",
            format!("nobody sweeps, though replicas are connected ({replicas}): {ago}"),
            "Look for warnings of the sweeper in the replicas' logs, and restart them.",
        );
    }
    if sessions == 0 && wanted.url.is_none() {
        return Finding::ok("sweep", "nobody sweeps, and there is nobody to sweep: no replica is connected");
    }
    Finding::fail(
        "sweep",
        format!(
            "nobody sweeps, and no replica is connected: {ago}; sessions that will never end: {sessions}"
        ),
        "Start `headcount serve` with this database, and keep it running: every replica sweeps.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn clocks_that_differ_by_more_than_tokens_allow_are_broken() {
        let state = |seconds: f64| judge_clock("clock", "it", time::Duration::seconds_f64(seconds)).state;
        assert_eq!([state(0.3), state(-0.9)], [State::Ok; 2]);
        assert_eq!([state(1.5), state(-4.9)], [State::Warn; 2]);
        assert_eq!([state(5.1), state(-3600.0)], [State::Fail; 2]);
    }
}
