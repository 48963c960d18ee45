//! The tables of `docs/settings.md`, from the command line. `HEADCOUNT_WRITE_DOCS=1` writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use clap::{Arg, Command, CommandFactory};
use headcount::cli::grammar::Cli;

use crate::pages::root;

pub fn command_line() -> Command {
    let mut cli = Cli::command();
    cli.build();
    cli
}

/// The last `[...]` of a help text is its range.
fn meaning_and_range(help: &str) -> (String, String) {
    let Some((before, rest)) = help.rsplit_once(" [") else { return (help.to_owned(), String::new()) };
    let (range, after) = rest.split_once(']').unwrap();
    (format!("{before}{after}"), range.to_owned())
}

fn row(arg: &Arg) -> String {
    let (meaning, mut range) = meaning_and_range(&arg.get_help().unwrap().to_string().replace('\n', " "));
    let values = arg.get_possible_values();
    if values.len() > 1 {
        range = values.iter().map(|value| format!("`{}`", value.get_name())).collect::<Vec<_>>().join(", ");
    }
    let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match default.join(",") {
        _ if arg.is_required_set() => "required".to_owned(),
        none if none.is_empty() => "none".to_owned(),
        default => format!("`{default}`"),
    };
    let variable = arg.get_env().unwrap().to_string_lossy().into_owned();
    format!("| `{variable}` | `--{}` | {default} | {range} | {meaning} |\n", arg.get_long().unwrap())
}

/// The tables of `docs/settings.md`: for each group of verbs the settings that no group before it has.
fn tables() -> String {
    let cli = command_line();
    let (mut text, mut seen) = (String::new(), BTreeSet::new());
    let of = |verb: &str| -> BTreeSet<String> {
        let arguments = cli.find_subcommand(verb).unwrap().get_arguments();
        arguments.filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned())).collect()
    };
    let (serve, dev) = (of("serve"), of("dev"));
    let both: BTreeSet<String> = serve.intersection(&dev).cloned().collect();
    let every: BTreeSet<String> = cli.get_subcommands().flat_map(|verb| of(verb.get_name())).collect();
    for (title, wanted) in [
        ("`serve` and `dev`", both),
        ("`serve` alone", serve),
        ("`dev` alone", dev),
        ("The verbs that ask a running service", every),
    ] {
        write!(
            text,
            "\n## {title}\n\n| variable | flag | default | range | meaning |\n|---|---|---|---|---|\n"
        )
        .unwrap();
        for arg in ["serve"]
            .into_iter()
            .chain(cli.get_subcommands().map(Command::get_name))
            .flat_map(|verb| cli.find_subcommand(verb).unwrap().get_arguments())
        {
            let Some(name) = arg.get_env().map(|name| name.to_string_lossy().into_owned()) else { continue };
            if wanted.contains(&name) && seen.insert(name) {
                text += &row(arg);
            }
        }
    }
    text + "\n"
}

#[test]
fn the_page_about_settings_is_what_the_command_line_says() {
    let path = root().join("docs/settings.md");
    let written = fs::read_to_string(&path).unwrap();
    let (start, rest) = written.split_once("<!-- settings: from the command line -->\n").unwrap();
    let (_, end) = rest.split_once("<!-- end -->").unwrap();
    let wanted = format!("{start}<!-- settings: from the command line -->\n{}<!-- end -->{end}", tables());
    if std::env::var_os("HEADCOUNT_WRITE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == wanted, "docs/settings.md is out of date: make settings");
}
