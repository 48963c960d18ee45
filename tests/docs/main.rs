//! The pages are true as far as a machine can tell: links lead somewhere, and each command, setting, path, call, error
//! code and name in code type exists.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod pages;
mod settings;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{Arg, Command};
use pages::{pages, parts, root, sources, spans, typed, words};

/// Of these a path begins with one.
const FOLDERS: &[&str] = &[
    "src/",
    "tests/",
    "docs/",
    "migrations/",
    "clients/",
    "ops/",
    "tools/",
    "scripts/",
    "benches/",
    "examples/",
    "openapi/",
    ".ci/",
];

/// Is made by the first release.
const NOT_YET: &str = "openapi/released.json";

/// Names of Postgres and of other programs, which our own code does not say.
const FOREIGN: &[&str] = &[
    "after_update_commit",
    "checkpoint_timeout",
    "headcount.fish",
    "max_wal_size",
    "pg_ctl",
    "pg_read_all_stats",
    "pg_stat_wal",
    "postgresql_embedded",
    "wal_compression",
];

/// Holds all pages to a check that gives what is wrong with one, and tells everything at once.
fn every_page(check: impl Fn(&Path, &str) -> Vec<String>) {
    let wrong: Vec<String> = pages()
        .iter()
        .flat_map(|(path, text)| {
            check(path, text).into_iter().map(move |what| format!("{}: {what}", path.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c)).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let leads = |page: &Path, target: &str| {
        let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
        let page = root().join(page);
        let file = if file.is_empty() { page } else { page.parent().unwrap().join(file) };
        let there = || parts(&fs::read_to_string(&file).unwrap()).0;
        file.exists()
            && (wanted.is_empty()
                || there().lines().any(|line| line.starts_with('#') && anchor(line) == wanted))
    };
    every_page(|page, text| {
        let prose = parts(text).0;
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let ours = targets.filter(|target| page.extension().unwrap() == "md" && !target.contains("://"));
        ours.filter(|target| !leads(page, target)).map(|target| format!("nothing is at {target}")).collect()
    });
}

#[test]
fn every_make_target_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let rules = makefile.lines().filter(|line| !line.starts_with(['\t', '#', '.']));
    let targets: BTreeSet<&str> = rules
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(names, _)| names.split_whitespace())
        .collect();
    every_page(|_, text| {
        let lines = typed(text);
        let named = lines.iter().filter_map(|line| line.strip_prefix("make ")?.split_whitespace().next());
        named.filter(|target| !targets.contains(target)).map(|target| format!("make {target}")).collect()
    });
}

fn flags(command: &Command) -> BTreeSet<String> {
    command.get_arguments().filter_map(Arg::get_long).map(|flag| format!("--{flag}")).collect()
}

#[test]
fn every_verb_and_flag_exists() {
    let cli = settings::command_line();
    let all: BTreeSet<String> = cli.get_subcommands().flat_map(flags).collect();
    every_page(|_, text| {
        let mut wrong = Vec::new();
        for line in typed(text) {
            let words: Vec<&str> = line.split(['|', '>', ';']).next().unwrap().split([' ', '=']).collect();
            let known = match *words {
                ["headcount", verb, ..] => cli.find_subcommand(verb).map(flags),
                [flag, ..] if flag.starts_with("--") => Some(all.clone()),
                _ => continue,
            };
            let fits = known.is_some_and(|known| {
                words.iter().all(|word| !word.starts_with("--") || known.contains(*word))
            });
            if !fits {
                wrong.push(line);
            }
        }
        wrong
    });
}

#[test]
fn every_variable_exists() {
    let known = sources().0;
    every_page(|_, text| {
        let ours = words(text).filter(|word| word.starts_with("HEADCOUNT_") && !word.ends_with('_'));
        ours.filter(|name| !known.contains(*name)).map(|name| format!("no variable {name}")).collect()
    });
}

#[test]
fn every_path_exists() {
    let exists = |page: &Path, span: &str| {
        let before = span.split('*').next().unwrap();
        let path = if before == span { span } else { before.rsplit_once('/').unwrap().0 };
        root().join(path).exists() || root().join(page.parent().unwrap()).join(path).exists()
    };
    let ours = |span: &String| FOLDERS.iter().any(|folder| span.starts_with(folder)) && !span.contains(' ');
    every_page(|page, text| {
        let paths = spans(text).into_iter().filter(ours).filter(|span| span != NOT_YET);
        paths.filter(|span| !exists(page, span)).map(|span| format!("no file {span}")).collect()
    });
}

/// Tests, fields, settings of Postgres, metrics, codes: what has an underscore is a name of something, and so is what
/// is in the schema.
#[test]
fn every_name_exists() {
    let (known, all) = sources();
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    every_page(|_, text| {
        let spans = spans(text).into_iter().filter(|span| span.contains('_') && span.chars().all(part));
        let in_schema = text.split("headcount.").skip(1).map(|rest| {
            format!("headcount.{}", rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap())
        });
        let unknown = |name: &String| !known.contains(name) && !all.contains(name.as_str());
        let wrong = spans.chain(in_schema).filter(|name| unknown(name) && !FOREIGN.contains(&&**name));
        wrong.map(|name| format!("nothing is called {name}")).collect()
    });
}

#[test]
fn every_call_exists() {
    let contract: serde_json::Value = serde_json::from_str(&contract()).unwrap();
    let exists =
        |method: &str, address: &str| {
            contract["paths"].as_object().unwrap().iter().any(|(template, methods)| {
                fits(template, address) && !methods[method.to_lowercase()].is_null()
            })
        };
    every_page(|_, text| {
        let spans = spans(text);
        let calls = spans.iter().filter_map(|span| span.split_once(' ')).filter(|(method, address)| {
            ["GET", "PUT", "POST", "PATCH", "DELETE"].contains(method) && address.starts_with('/')
        });
        let calls = calls.map(|(method, address)| (method, address.split(['?', ' ']).next().unwrap()));
        calls
            .filter(|(method, address)| !exists(method, address))
            .map(|call| format!("no call {call:?}"))
            .collect()
    });
}

fn contract() -> String {
    fs::read_to_string(root().join("openapi/headcount.json")).unwrap()
}

/// Whether an address fits a template of the contract: what is in braces stands for any one piece.
fn fits(template: &str, address: &str) -> bool {
    let (wanted, given): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), address.split('/').collect());
    let same = |(wanted, given): (&&str, &str)| wanted.starts_with('{') || *wanted == given;
    wanted.len() == given.len() && wanted.iter().zip(given).all(same)
}

/// Where a status is said before a code (503 `unavailable`) or after it.
#[test]
fn every_error_code_has_the_status_that_is_said() {
    let contract = contract();
    every_page(|_, text| {
        let prose = parts(text).0;
        let pieces: Vec<&str> = prose.split('`').collect();
        let said = pieces.windows(3).step_by(2).flat_map(|around| {
            let before = around[0].trim_end().rsplit(|c: char| !c.is_ascii_digit()).next();
            let after = around[2].strip_prefix(" (").and_then(|text| text.get(..3));
            let status = [before, after].into_iter().flatten();
            let status = status.filter(|text| text.len() == 3 && text.starts_with(['4', '5']));
            status.map(|status| format!("| `{}` | {status} |", around[1])).collect::<Vec<_>>()
        });
        said.filter(|said| !contract.contains(said)).collect()
    });
}

#[test]
fn the_readme_can_be_read_at_once_and_its_page_is_that_of_the_recipes() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 200, "a manual belongs to docs/");
    let recipes = fs::read_to_string(root().join("docs/recipes.md")).unwrap();
    let page = |text: &str| -> Vec<String> {
        let block = text.split("```html\n").nth(1).unwrap().split("```").next().unwrap();
        let block = block.replace("http://127.0.0.1:8080", "https://presence.example.org");
        let own =
            |line: &&str| !["const user", "const ask", "const token"].iter().any(|own| line.starts_with(own));
        block.lines().filter(own).map(str::to_owned).collect()
    };
    assert_eq!(page(&readme), page(&recipes), "browser tests run the page of the recipes");
}
