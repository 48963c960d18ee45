//! `target/faults/summary.json`: an entry per scenario, worst of its seeds. Written anew after every run, so that a run
//! that is broken off leaves what was found so far.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checker::Report;

/// Where everything about the runs goes.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/faults")
}

#[derive(Default, Serialize, Deserialize)]
struct Summary {
    scenarios: BTreeMap<String, Scenario>,
}

/// What became of a scenario, over all its seeds.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Scenario {
    seeds: Vec<u64>,
    violations: usize,
    false_leaves: usize,
    operations: usize,
    acked: usize,
    events: usize,
    deliveries: usize,
    /// Expired members: the silent ones.
    expired: usize,
    lost_at_failover: usize,
    /// From the end of the fault to the first acked write and the first change on a stream, whichever is later.
    heal_ms: u64,
    worst_latency_ms: u64,
    worst_latency_outside_faults_ms: u64,
    p99_latency_outside_faults_ms: u64,
    /// What the scenario itself measured, the greatest of each.
    measured: BTreeMap<String, u64>,
}

/// Adds a run.
pub fn add(scenario: &str, seed: u64, report: &Report, measured: &BTreeMap<String, u64>) {
    let path = folder().join("summary.json");
    let mut all: Summary =
        fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let entry = all.scenarios.entry(scenario.to_owned()).or_default();
    let found = &report.summary;
    if entry.seeds.last() != Some(&seed) {
        entry.seeds.push(seed); // a long run is judged more than once
    }
    entry.violations += report.violations.len();
    entry.false_leaves += found.false_leaves;
    entry.operations += found.operations;
    entry.acked += found.acked;
    entry.events += found.events;
    entry.deliveries += found.deliveries;
    entry.expired += found.expired;
    entry.lost_at_failover += found.lost_at_failover.len();
    let healed = found.heal_time.iter().flat_map(|heal| [heal.first_ack, heal.first_frame]).flatten();
    raise(&mut entry.heal_ms, millis(healed.max().unwrap_or_default()));
    raise(&mut entry.worst_latency_ms, millis(found.worst_latency));
    raise(&mut entry.worst_latency_outside_faults_ms, millis(found.worst_latency_outside_faults));
    raise(&mut entry.p99_latency_outside_faults_ms, millis(found.p99_latency_outside_faults));
    for (name, value) in measured {
        raise(entry.measured.entry(name.clone()).or_default(), *value);
    }
    let part = path.with_extension("part");
    fs::write(&part, serde_json::to_vec_pretty(&all).unwrap()).unwrap();
    fs::rename(part, path).unwrap();
}

fn raise(most: &mut u64, value: u64) {
    *most = value.max(*most);
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}
