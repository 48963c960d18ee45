//! The rules of this code base that a compiler does not know: which layer may know which, how long a file may be,
//! how a file begins. Each has its reason.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longer than this, a file is about two things.
const LINES_MAX: usize = 400;

/// Each folder and file of `src`, and which others it may name. What is not listed is forbidden.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("measure", &[]),
    ("auth", &["domain"]),
    ("store", &["domain", "measure"]),
    ("webhooks", &["domain", "measure"]),
    ("commands", &["domain", "measure", "store", "webhooks"]),
    ("hub", &["domain", "measure", "store"]),
    // It converts settings into the types of the layers that use them.
    ("settings", &["domain", "auth", "store", "commands", "webhooks"]),
    ("logs", &["measure", "auth", "settings"]),
    ("systemd", &["hub"]),
    ("tasks", &["domain", "measure", "store", "commands", "hub", "webhooks"]),
    ("http", &["domain", "measure", "auth", "store", "commands", "hub", "settings", "webhooks"]),
    // Verbs are clients: of the service they know what it tells, and of `http` its document and certificates.
    ("cli", &["domain", "auth", "store", "http", "settings"]),
    ("app", &["auth", "store", "commands", "hub", "http", "settings", "systemd", "tasks", "webhooks"]),
];

/// The wings of `http`, and which others they may name: none names `routes`, which composes the handlers.
const WINGS: &[(&str, &[&str])] = &[
    ("service", &["request"]), // its limits
    ("request", &["service"]),
    ("api", &["service", "request"]),
    ("streams", &["service", "request", "api"]),
    ("server", &["service", "request", "streams"]),
    ("pages", &["service", "request"]),
    ("routes", &["api", "streams", "request", "pages"]),
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

/// All modules of `src` but the crate roots: path, such as `http::api::join`, and code.
fn modules() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let module = |path: PathBuf| {
        let name = path.strip_prefix(&src).unwrap().with_extension("").to_string_lossy().replace('/', "::");
        (name.strip_suffix("::mod").unwrap_or(&name).to_owned(), code(&path))
    };
    let roots = ["lib", "main"];
    rust_files("src").into_iter().map(module).filter(|(name, _)| !roots.contains(&name.as_str())).collect()
}

/// Expands a `use` tree: `a::{b, c::d}` becomes `a::b` and `a::c::d`.
fn expand_use(stem: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, list)) = tree.split_once('{') else {
        return found.push(format!("{stem}{}", tree.trim()));
    };
    let (stem, mut depth) = (format!("{stem}{}", head.trim()), 0);
    let list = list.trim_end().strip_suffix('}').unwrap();
    let branches = list.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    branches.filter(|branch| !branch.trim().is_empty()).for_each(|b| expand_use(&stem, b, found));
}

/// The modules that a module depends on: by `use`, or by a full path in its code.
fn imports(modules: &BTreeMap<String, String>, module: &str) -> BTreeSet<String> {
    let (code, mut paths) = (format!("\n{}", modules[module]), Vec::new());
    for tree in code.replace("\npub use ", "\nuse ").split(';').filter_map(|s| s.split_once("\nuse ")) {
        expand_use("", tree.1, &mut paths);
    }
    for root in ["crate::", "super::"] {
        let path = |(at, _)| code[at..].split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).next();
        paths.extend(code.match_indices(root).filter_map(path).map(str::to_owned));
    }
    paths.iter().filter_map(|path| resolve(modules, module, path)).filter(|other| other != module).collect()
}

/// The module of ours that a path leads to; none for a path of another crate.
fn resolve(modules: &BTreeMap<String, String>, module: &str, path: &str) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").collect();
    for name in path.split("::") {
        match name {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()),
            name => at.push(name),
        }
    }
    (1..=at.len()).rev().map(|length| at[..length].join("::")).find(|path| modules.contains_key(path))
}

fn segment(module: &str, depth: usize) -> Option<&str> {
    module.split("::").nth(depth)
}

/// Whether `module` may name `other`. The table is about the segment at `depth` of their paths.
fn may_import(table: &[(&str, &[&str])], depth: usize, module: &str, other: &str) -> bool {
    let (Some(from), Some(to)) = (segment(module, depth), segment(other, depth)) else { return true };
    from == to || table.iter().any(|(name, may)| *name == from && may.contains(&to))
}

#[test]
fn everything_in_src_is_in_the_table() {
    let modules = modules();
    for (depth, inside, table) in [(0, "", MAY_NAME), (1, "http::", WINGS)] {
        let there = modules.keys().filter(|module| module.starts_with(inside));
        let there: BTreeSet<&str> = there.filter_map(|module| segment(module, depth)).collect();
        assert_eq!(there, table.iter().map(|(name, _)| *name).collect(), "what is there, and the table");
    }
}

#[test]
fn layers_know_only_what_is_below_them() {
    let modules = modules();
    for module in modules.keys() {
        for other in imports(&modules, module) {
            assert!(may_import(MAY_NAME, 0, module, &other), "{module} names {other}");
            let both = module.starts_with("http::") && other.starts_with("http::");
            assert!(!both || may_import(WINGS, 1, module, &other), "{module} names {other}");
        }
    }
}

/// No import cycles. Imports of an ancestor's `mod.rs` are exempt: it holds the types that its files share. If two files need
/// each other, the shared item belongs in one of them, or in a third.
#[test]
fn modules_import_each_other_in_one_direction() {
    let modules = modules();
    let above = |module: &str, other: &str| module.starts_with(&format!("{other}::"));
    let edges = |module: &String| {
        let others = imports(&modules, module).into_iter().filter(|other| !above(module, other));
        (module.clone(), others.collect::<BTreeSet<_>>())
    };
    let mut left: BTreeMap<String, BTreeSet<String>> = modules.keys().map(edges).collect();
    // What imports nothing that is left, or is imported by nothing that is left, is in no cycle.
    loop {
        let count = left.len();
        let imported: BTreeSet<String> = left.values().flatten().cloned().collect();
        let there: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|module, others| imported.contains(module) && !others.is_disjoint(&there));
        if left.len() == count {
            break;
        }
    }
    assert!(left.is_empty(), "an import cycle, or between two: {:?}", left.keys());
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
fn a_module_with_parts_is_a_folder_with_mod_rs() {
    for path in rust_files("src") {
        let parts = path.with_extension("");
        assert!(!parts.is_dir(), "{}: has a folder, so it must be mod.rs in it", path.display());
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
