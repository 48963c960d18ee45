//! Checks the configuration of Postgres: what a promise depends on, and what will cause trouble later.

use std::collections::BTreeMap;

use super::arguments::DoctorArgs;
use super::finding::Finding;
use crate::store::checkup::{Checkup, Idler, ServerFacts};

/// The oldest Postgres that the tests run on.
const VERSION_MIN: i32 = 15;

/// Beside the pool: one for heartbeats, one to listen.
const CONNECTIONS_BESIDE: u32 = 2;

/// Runs the checks. Returns a single finding if all is well.
pub async fn look(wanted: &DoctorArgs, checkup: &mut Checkup, replicas: usize) -> Vec<Finding> {
    let (server, settings, idlers) =
        match (checkup.server().await, checkup.settings().await, checkup.idlers().await) {
            (Ok(server), Ok(settings), Ok(idlers)) => (server, Settings(settings), idlers),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                return vec![Finding::of_query("postgres", &error)];
            }
        };
    let mut found: Vec<Finding> =
        [version(&server), writable(&server, &settings)].into_iter().flatten().collect();
    found.extend(durable(&settings));
    found.extend(upkeep(&settings));
    found.extend(rules(&settings));
    found.extend(room_for(wanted, &server, &settings, replicas));
    found.extend(idlers.iter().map(idle));
    if found.is_empty() {
        let said = format!("{} is set up as it should be", named(server.version));
        found.push(Finding::ok("postgres", said));
    }
    found
}

struct Settings(BTreeMap<String, String>);

impl Settings {
    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_some_and(|set| set == value)
    }

    fn number(&self, name: &str) -> i64 {
        self.0.get(name).and_then(|set| set.parse().ok()).unwrap_or(0)
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

fn named(version: i32) -> String {
    format!("Postgres {}.{}", version / 10_000, version % 10_000)
}

fn version(server: &ServerFacts) -> Option<Finding> {
    (server.version / 10_000 < VERSION_MIN).then(|| {
        let says = format!("{} is older than what headcount is tested with", named(server.version));
        Finding::warn("postgres", says, format!("Upgrade it to {VERSION_MIN} or newer."))
    })
}

fn writable(server: &ServerFacts, settings: &Settings) -> Option<Finding> {
    if server.standby {
        let mend = "Name the primary in HEADCOUNT_DATABASE_URL, or the address that your failover keeps pointing at it.";
        return Some(Finding::fail("postgres", "this is a standby: nothing can be written", mend));
    }
    settings.is("default_transaction_read_only", "on").then(|| {
        let mend =
            "Switch default_transaction_read_only off for this role and database (`alter role ... set`).";
        Finding::fail("postgres", "transactions are read only for this role", mend)
    })
}

/// Settings on which promise P1 depends: nothing acknowledged is lost.
fn durable(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    if settings.is("fsync", "off") {
        let says = "fsync is off: a crash of the machine destroys the database";
        found.push(Finding::fail(
            "postgres",
            says,
            "Set fsync = on in postgresql.conf and restart Postgres.",
        ));
    }
    if settings.is("full_page_writes", "off") {
        let says = "full_page_writes is off: a crash of the machine can destroy the database";
        found.push(Finding::fail(
            "postgres",
            says,
            "Set full_page_writes = on in postgresql.conf and reload Postgres.",
        ));
    }
    if settings.is("synchronous_commit", "off") {
        let says = "synchronous_commit is off: a crash of Postgres loses joins and leaves that were answered";
        let mend = "Set synchronous_commit = on for this role; headcount switches it off itself where it may, for heartbeats.";
        found.push(Finding::warn("postgres", says, mend));
    }
    found
}

fn upkeep(settings: &Settings) -> Option<Finding> {
    (settings.is("autovacuum", "off") || settings.is("track_counts", "off")).then(|| {
        let says = "autovacuum is off: the tables grow with every heartbeat and become slow";
        Finding::fail(
            "postgres",
            says,
            "Set autovacuum = on and track_counts = on in postgresql.conf and reload Postgres.",
        )
    })
}

fn rules(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let isolation = settings.text("default_transaction_isolation");
    if !isolation.is_empty() && isolation != "read committed" {
        let says =
            format!("default_transaction_isolation is {isolation}: commands of one room refuse each other");
        let mend =
            "Set default_transaction_isolation = 'read committed' for this role (`alter role ... set`).";
        found.push(Finding::fail("postgres", says, mend));
    }
    if settings.number("idle_session_timeout") > 0 {
        let says = "idle_session_timeout cuts the connection that listens, which only hears";
        let mend = "Set idle_session_timeout = 0 for this role (`alter role ... set`).";
        found.push(Finding::warn("postgres", says, mend));
    }
    found
}

/// Whether there are enough connections for the replicas that there are, and for one more while they are
/// replaced.
fn room_for(
    wanted: &DoctorArgs,
    server: &ServerFacts,
    settings: &Settings,
    replicas: usize,
) -> Option<Finding> {
    let each = i64::from(wanted.tuning.database_connections + CONNECTIONS_BESIDE);
    let replicas = i64::try_from(replicas).unwrap_or(i64::MAX).max(1);
    let needed = each.saturating_mul(replicas.saturating_add(1));
    let reserved =
        settings.number("superuser_reserved_connections") + settings.number("reserved_connections");
    let limits = [
        ("max_connections", settings.number("max_connections") - reserved),
        ("the role's connection limit", limit(server.role_max)),
        ("the database's connection limit", limit(server.database_max)),
    ];
    let (what, allowed) = limits.into_iter().min_by_key(|(_, allowed)| *allowed)?;
    (allowed < needed).then(|| {
        let says = format!(
            "{what} leaves {allowed} connections ({} are taken), and at {each} a replica, {} of them need {needed}",
            server.connections,
            replicas.saturating_add(1)
        );
        let mend = format!("Raise {what}, or lower HEADCOUNT_DATABASE_CONNECTIONS.");
        Finding::warn("postgres", says, mend)
    })
}

fn limit(connections: i32) -> i64 {
    if connections < 0 { i64::MAX } else { connections.into() }
}

fn idle(idler: &Idler) -> Finding {
    let Idler { pid, name, seconds } = idler;
    let says = format!(
        "session {pid} ({name}) has held a transaction open for {seconds} s and does nothing: it keeps rows from being cleaned, and rooms locked if it joined somebody"
    );
    let mend = format!(
        "End it (`select pg_terminate_backend({pid})`), and set idle_in_transaction_session_timeout for its role."
    );
    Finding::warn("postgres", says, mend)
}
