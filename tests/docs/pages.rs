//! Reading: the pages, what they have in code type, and the sources that define what they name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the things that pages name are defined.
const SOURCES: &[&str] =
    &["src", "tests", "migrations", "openapi", "ops", "benches", "clients", "tools", "scripts", "Makefile"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under a folder that is ours and is text.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut waiting = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", "dist", ".git"].contains(&&*name) {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file()
            && !path.starts_with(root().join("tests/docs"))
            && let Ok(text) = fs::read_to_string(&path)
        {
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    found
}

/// The pages, and what `src/lib.rs` says of the architecture.
pub fn pages() -> Vec<(PathBuf, String)> {
    let markdown = |(path, _): &(PathBuf, String)| path.extension().is_some_and(|e| e == "md");
    let mut pages: Vec<_> = files(root()).into_iter().filter(markdown).collect();
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let said = library.lines().filter_map(|line| line.strip_prefix("//!"));
    pages.push(("src/lib.rs".into(), said.map(|line| format!("{}\n", line.trim_start())).collect()));
    assert!(pages.len() > 15, "the pages are found");
    pages
}

/// A page taken apart: its prose, and the lines of its blocks of code with their language.
pub fn parts(text: &str) -> (String, Vec<(&str, &str)>) {
    let (mut prose, mut code, mut language) = (String::new(), Vec::new(), None);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), language) {
            (Some(named), None) => language = Some(named),
            (Some(_), Some(_)) => language = None,
            (None, Some(language)) => code.push((language, line)),
            (None, None) => prose += &format!("{line}\n"),
        }
    }
    (prose, code)
}

/// What a page has in code type within its prose, each on one line.
pub fn spans(text: &str) -> Vec<String> {
    let one_line = |span: &str| span.split_whitespace().collect::<Vec<_>>().join(" ");
    parts(text).0.split('`').skip(1).step_by(2).map(one_line).collect()
}

/// Lines that are typed into a shell, without their prompt.
pub fn typed(text: &str) -> Vec<String> {
    let lines = parts(text).1.into_iter().filter_map(|(language, line)| match language {
        "sh" => Some(line),
        "console" => line.strip_prefix("$ ").or(line.strip_prefix("# ")),
        _ => None,
    });
    lines.map(str::to_owned).chain(spans(text)).collect()
}

pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Every word of the sources, and all of them as one text.
pub fn sources() -> (BTreeSet<String>, String) {
    let found = SOURCES.iter().flat_map(|path| files(&root().join(path)));
    let all: String =
        found.filter(|(path, _)| path.extension().is_none_or(|e| e != "md")).map(|(_, text)| text).collect();
    (words(&all).map(str::to_owned).collect(), all)
}
