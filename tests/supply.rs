//! Where dependencies come from and under which licence, checked on every machine by the lists of `deny.toml`: for the
//! packages that Cargo.lock names, which is what a build may use. cargo-deny says more, where it is installed.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn deny() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap()
}

/// The quoted words of a list in `deny.toml`.
fn list(start: &str) -> BTreeSet<String> {
    let text = deny();
    let list = text.split_once(start).expect(start).1.split_once("\n]").unwrap().0.to_owned();
    let lines = list.lines().map(|line| line.split_once(" reason").map_or(line, |(before, _)| before));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Without the network: everything is there, since this was built from it.
fn packages() -> Vec<Value> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform"]);
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = command.arg(host).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used = metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].clone());
    let used: BTreeSet<String> = used.map(|id| id.as_str().unwrap().to_owned()).collect();
    let all = metadata["packages"].as_array().unwrap().iter();
    all.filter(|package| used.contains(package["id"].as_str().unwrap())).cloned().collect()
}

/// Whether one of the choices that an expression gives is made of allowed licences only.
fn allows(allowed: &BTreeSet<String>, expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    if let Some((inner, rest)) = expression.trim().strip_prefix('(').and_then(|text| text.split_once(')')) {
        return match rest.trim().split_once(' ') {
            None => allows(allowed, inner),
            Some(("AND", rest)) => allows(allowed, inner) && allows(allowed, rest),
            Some((_, rest)) => allows(allowed, inner) || allows(allowed, rest),
        };
    }
    let every = |choice: &str| choice.split(" AND ").all(|licence| allowed.contains(licence.trim()));
    expression.split(" OR ").any(every)
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = list("allow = [");
    for package in packages() {
        let expression = package["license"].as_str().unwrap_or("none");
        assert!(allows(&allowed, expression), "{}: {expression}", package["name"]);
    }
    assert!(!allows(&allowed, "GPL-3.0-only") && !allows(&allowed, "MIT AND GPL-3.0-only"));
    assert!(allows(&allowed, "(Apache-2.0 OR GPL-3.0-only) AND BSD-3-Clause"));
    assert!(!allows(&allowed, "(MIT OR Apache-2.0) AND GPL-3.0-only"));
}

#[test]
fn every_dependency_comes_from_the_registry_and_none_is_banned() {
    let (packages, banned) = (packages(), list("deny = ["));
    assert!(packages.len() > 100 && banned.contains("openssl-sys"), "{banned:?}");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let ours = name == env!("CARGO_PKG_NAME") && package["source"].is_null();
        assert!(ours || package["source"] == REGISTRY, "{name} comes from {}", package["source"]);
        assert!(!banned.contains(name), "{name} is banned in deny.toml");
    }
}
