//! `headcount doctor`: looks for what is wrong with a set-up, and says for each thing the sentence that mends it.
//!
//! It takes the settings of `serve` and looks at what `serve` would use, as the role that would use it; with
//! `--url` it also looks at a running service, from here, through whatever is in between. It changes nothing.
//! It reports what it left out because no setting names it.

mod arguments;
mod database;
mod finding;
mod keys;
mod network;
mod server;
mod service;

use rustix::process::{Resource, getrlimit};
use secrecy::ExposeSecret;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;

use super::failure::Failure;
use super::out::Out;
use finding::{Finding, Findings, State};

pub use arguments::DoctorArgs;

/// Descriptors beside those of streams and database connections: files, requests under way, the listening socket.
const DESCRIPTORS_BESIDE: u64 = 200;

/// The report, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    broken: usize,
    warnings: usize,
    findings: &'a [Finding],
}

/// Runs the checks of everything that settings name. Returns whether nothing is broken.
pub async fn run(wanted: DoctorArgs, out: &mut Out) -> Result<bool, Failure> {
    let json = wanted.json;
    let mut findings = Findings { all: Vec::new(), out: (!json).then_some(&mut *out) };
    let database = wanted.database.url().ok();
    let from_outside = database.is_none() && wanted.url.is_some();

    if from_outside {
        findings.add(Finding::skip(
            "settings",
            "no database is named (HEADCOUNT_DATABASE_URL): only the service is looked at",
        ))?;
    } else {
        findings.extend(keys::look(&wanted).await)?;
        findings.add(descriptors(&wanted))?;
    }
    let mut replicas = Vec::new();
    match database.map(|url| url.expose_secret().parse::<PgConnectOptions>()) {
        Some(Ok(options)) => replicas = database::look(&wanted, &options, &mut findings).await?,
        // The text may hold a password, so it is not told.
        Some(Err(_)) => findings.add(Finding::fail(
            "database",
            "HEADCOUNT_DATABASE_URL is no address of a database",
            "Write it as postgres://user:password@host:port/database, with %-codes for signs that stand for something.",
        ))?,
        None if from_outside => {}
        None => findings.add(Finding::fail(
            "database",
            "HEADCOUNT_DATABASE_URL is not set",
            "Set it to the Postgres to use, as postgres://user:password@host:port/database.",
        ))?,
    }
    match &wanted.url {
        Some(url) => service::look(&wanted, url, &replicas, &mut findings).await?,
        None => findings
            .add(Finding::skip("service", "not looked at: no address is given (--url or HEADCOUNT_URL)"))?,
    }
    let Findings { all, .. } = findings;
    tell(&all, json, out)
}

fn tell(findings: &[Finding], json: bool, out: &mut Out) -> Result<bool, Failure> {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (broken, warnings, fine) = (count(State::Fail), count(State::Warn), count(State::Ok));
    if json {
        out.json(&Report { broken, warnings, findings })?;
    } else {
        out.line(&format!("{broken} broken, {warnings} to look at, {fine} fine"))?;
    }
    Ok(broken == 0)
}

/// Each stream is a socket. The limit is that of this shell: a service started elsewhere has its own.
fn descriptors(wanted: &DoctorArgs) -> Finding {
    let tuning = &wanted.tuning;
    let streams = u64::try_from(tuning.limits.streams_per_replica).unwrap_or(u64::MAX);
    let wanted =
        streams.saturating_add(u64::from(tuning.database_connections)).saturating_add(DESCRIPTORS_BESIDE);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if streams > 0 && limit < wanted => Finding::warn(
            "descriptors",
            format!(
                "{limit} descriptors may be open here, too few for {streams} streams (HEADCOUNT_LIMIT_STREAMS)"
            ),
            format!(
                "Start headcount with at least {wanted}: LimitNOFILE={wanted} in a systemd unit, ulimit -n {wanted} in a shell."
            ),
        ),
        Some(limit) => Finding::ok("descriptors", format!("{limit} may be open here")),
        None => Finding::ok("descriptors", "any number may be open here"),
    }
}
