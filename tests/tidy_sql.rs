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
