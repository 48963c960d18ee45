//! The rules of the SQL that Postgres does not know: each function stands once, is short, and says what it locks; the
//! functions that are loaded are those of the folder, under a revision of their own.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use headcount::store::rules::Rules;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/functions")
}

/// Name and text of each file, in the order of their names.
fn files() -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let sql = entries.filter(|path| path.extension().is_some_and(|e| e == "sql"));
    sql.map(|path| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
    })
    .collect()
}

#[test]
fn files_say_what_they_are_and_are_lowercase() {
    let state = folder().parent().unwrap().join("0001_state.sql");
    let state = ("0001_state.sql".to_owned(), fs::read_to_string(state).unwrap());
    for (file, text) in files().into_iter().chain([state]) {
        assert!(text.starts_with("-- "), "{file}: begins by saying what it is");
        for keyword in ["SELECT ", "INSERT ", "CREATE ", "UPDATE ", "DELETE "] {
            assert!(!text.contains(keyword), "{file}: {keyword}in capitals");
        }
    }
}

#[test]
fn every_file_is_loaded() {
    let mut loaded = Rules::of_this_build().files;
    loaded.push(Rules::of_this_build().triggers);
    for (file, text) in files() {
        assert!(loaded.contains(&text.as_str()), "{file}: not in src/store/rules.rs");
    }
    assert_eq!(loaded.len(), files().len());
}

/// A build leaves functions of a higher revision alone, so a change without a new one might never arrive.
#[test]
fn the_revision_belongs_to_the_functions() {
    let rules = Rules::of_this_build();
    let path = folder().join("revision");
    let written = fs::read_to_string(&path).unwrap();
    let (revision, checksum) = written.trim_end().split_once(' ').unwrap();
    if env::var_os("HEADCOUNT_WRITE_DOCS").is_some() && checksum != rules.checksum() {
        let next = revision.parse::<i32>().unwrap() + 1;
        fs::write(&path, format!("{next} {}\n", rules.checksum())).unwrap();
        return;
    }
    assert_eq!(checksum, rules.checksum(), "functions have changed: run make rules");
}

/// Name, file, header (comments above and the signature) and body of every function.
fn functions() -> Vec<Function> {
    let mut found = Vec::new();
    for (file, text) in files() {
        let (mut comments, mut lines) = (String::new(), text.lines().peekable());
        while let Some(line) = lines.next() {
            if line.starts_with("-- ") {
                comments += line;
            } else if let Some(rest) = line.strip_prefix("create or replace function headcount.") {
                let name = rest.split('(').next().unwrap().to_owned();
                let mut whole = line.to_owned();
                while !(whole.trim_end().ends_with("$$;")) {
                    whole = whole + "\n" + lines.next().unwrap();
                }
                found.push(Function {
                    file: file.clone(),
                    name,
                    comments: std::mem::take(&mut comments),
                    whole,
                });
            } else {
                comments.clear();
            }
        }
    }
    found
}

struct Function {
    file: String,
    name: String,
    comments: String,
    whole: String,
}

/// A function that cannot be read aloud as its own table of contents is two.
const LINES_MAX: usize = 70;

#[test]
fn each_function_stands_once_and_is_short() {
    let functions = functions();
    assert!(functions.len() > 80, "{} found", functions.len());
    let mut seen = BTreeMap::new();
    for Function { file, name, whole, .. } in &functions {
        let lines = whole.lines().count();
        assert!(lines <= LINES_MAX, "{file}: {name} has {lines} lines, at most {LINES_MAX}");
        let before = seen.insert(name.clone(), file.clone());
        assert!(before.is_none(), "{name} stands in {before:?} and in {file}");
    }
}

#[test]
fn what_writes_says_what_it_locks_or_needs() {
    let mut silent = Vec::new();
    for Function { file, name, comments, whole } in functions() {
        let writes = [
            "insert into headcount.",
            "update headcount.",
            "delete from headcount.",
            " for update",
            "lock table",
        ];
        // Whether a lock is taken is the point: one row of its own, or a trigger of a statement that has them.
        if !writes.iter().any(|what| whole.contains(what)) || whole.contains("returns trigger") {
            continue;
        }
        let said = ["locks:", "needs:"].iter().any(|word| comments.contains(word));
        if !said {
            silent.push(format!("{file}: {name}"));
        }
    }
    assert!(silent.is_empty(), "`-- locks:` or `-- needs:` is missing above {silent:#?}");
}

/// Statements that call functions which call others: they read `headcount.rules` first (see `src/store/rules.rs`).
#[test]
fn callers_pass_the_gate() {
    let gated = [
        "apply",
        "revoke",
        "refresh_idle",
        "put_users",
        "erase_user",
        "erase_step",
        "sweep",
        "trim",
        "turn_days",
    ]
    .into_iter()
    .chain(["webhook_tick", "webhook_make", "webhook_gone", "webhook_put", "webhook_delete"]);
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let code: String = fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for name in gated {
        let call = format!("headcount.{name}(");
        let at = code.find(&call).unwrap_or_else(|| panic!("{name} is called by the store"));
        let begin = code[..at].rfind("\"select ").unwrap();
        let end = at + code[at..].find('"').unwrap();
        assert!(code[begin..end].contains("headcount.rules"), "{}", &code[begin..end]);
    }
    for Function { file, name, whole, .. } in functions() {
        let single = ["join", "leave", "update", "kick"].contains(&name.as_str());
        assert!(!single || whole.contains("from headcount.rules"), "{file}: {name}");
    }
}
