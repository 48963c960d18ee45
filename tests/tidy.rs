//! The rules of this code base that a compiler does not know: which layer may know which, how long a file may be,
//! how a file begins. Each has its reason.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

/// Longer than this, a file is about two things.
const LINES_MAX: usize = 400;

/// Each layer and what it may name of this crate. What is not listed is forbidden.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("measure", &[]),
    ("auth", &["domain"]),
    ("store", &["domain", "measure"]),
    ("webhooks", &["domain", "measure"]),
    ("commands", &["domain", "measure", "store", "webhooks"]),
    ("hub", &["domain", "measure", "store"]),
    // Verbs are clients: of the service they know what it tells, and of `http` its document and certificates.
    ("cli", &["domain", "auth", "store", "http", "settings"]),
    ("tasks", &["domain", "measure", "store", "commands", "hub", "webhooks"]),
    ("http", &["domain", "measure", "auth", "store", "commands", "hub", "settings", "webhooks"]),
];

/// Names that a layer must not use, and why.
const MUST_NOT_SAY: &[(&str, &[&str], &str)] = &[
    ("domain", &["async fn", "tokio", "sqlx", "Instant::now", "now_utc"], "no async, no I/O, no clock"),
    ("http", &["sqlx"], "no SQL"),
    ("commands", &["sqlx::query"], "the only SQL is in store"),
    ("hub", &["sqlx", "actix"], "neither SQL nor HTTP"),
    ("tasks", &["sqlx::query"], "the only SQL is in store"),
    (
        "cli",
        &["sqlx::query", "println!", "actix"],
        "no SQL, no server, and a closed standard output is no panic",
    ),
    ("webhooks", &["sqlx", "actix"], "neither SQL nor HTTP of ours"),
];

/// Where the word is in a test and no test waits: the file, the call, and why.
const FAULTS_THAT_SLEEP: &[(&str, &str, &str)] = &[
    (
        "tests/faults/scenarios/leases.rs",
        "perform pg_sleep",
        "the fault itself: a sweeper whose database is slow between its look and its deed",
    ),
    (
        "tests/service/ops/upgrade.rs",
        "select pg_sleep",
        "the loader of rules is slow, so that calls come meanwhile",
    ),
];

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has Rust files");
    found
}

fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn layers_know_only_what_is_below_them() {
    for (layer, allowed) in MAY_NAME {
        for path in rust_files(&format!("src/{layer}")) {
            let code = code(&path);
            for named in code
                .match_indices("crate::")
                .filter_map(|(at, _)| code[at + 7..].split([':', ';', '{', ' ']).next())
            {
                let known = named == *layer || allowed.contains(&named);
                assert!(known, "{}: {layer} names {named}", path.display());
            }
        }
    }
}

#[test]
fn layers_do_not_use_what_is_not_theirs() {
    for (layer, words, why) in MUST_NOT_SAY {
        for path in rust_files(&format!("src/{layer}")) {
            let code = code(&path);
            for word in *words {
                assert!(!code.contains(word), "{}: {word} in {layer}: {why}", path.display());
            }
        }
    }
}

#[test]
fn files_are_about_one_thing_and_say_which() {
    for path in ["src", "tests", "examples"].into_iter().flat_map(rust_files) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{}: begins by saying what it is", path.display());
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines, at most {LINES_MAX}", path.display());
    }
}

#[test]
fn no_file_is_a_drawer() {
    for path in ["src", "tests"].into_iter().flat_map(rust_files) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let drawer =
            ["util", "utils", "helper", "helpers", "common", "manager", "misc"].contains(&name.as_str());
        assert!(!drawer, "{}: named after what it holds, not after being one", path.display());
    }
}

#[test]
fn tests_wait_for_facts_and_none_is_ignored() {
    let [sleep, sleep_until, elapse] = ["sleep", "sleep_until", "elapse"].map(|name| format!("{name}("));
    let ignored = ["#[", "ignore"].concat();
    for path in rust_files("tests") {
        let (mut code, path) = (code(&path), path.to_string_lossy().into_owned());
        assert!(!code.contains(&ignored), "{path}: an ignored test");
        for (file, fault, _) in FAULTS_THAT_SLEEP {
            if path.ends_with(file) {
                code = code.replacen(&format!("{fault}("), "", 1);
            }
        }
        assert!(!code.contains(&sleep) && !code.contains(&sleep_until), "{path}: waits for time");
        let may = path.contains("tests/faults/") || path.ends_with("tests/support/wait.rs");
        assert!(may || !code.contains(&elapse), "{path}: only faults are a matter of time");
    }
}
