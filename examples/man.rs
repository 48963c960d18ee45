//! Writes the man page, from the command line itself: `cargo run --example man >headcount.1`
//!
//! One page with every command, as `git`'s used to be: an operator's search finds a setting wherever it is.

use std::io::{Write, stdout};

use clap::CommandFactory;
use clap_mangen::Man;
use headcount::cli::grammar::Cli;

const FILES: &str = r"
.SH FILES
.TP
/etc/headcount/headcount.env
The settings of the service, each as the variable that its flag names.
.TP
/usr/share/doc/headcount/docs/operate.md.gz
How to run it.
.SH EXIT STATUS
0 when it did what it was told, 2 when Postgres is not installed (dev) or the command line is wrong, else 1.
";

#[cfg_attr(test, allow(dead_code, reason = "the tests of the package take the page alone"))]
fn main() -> std::io::Result<()> {
    stdout().write_all(&page()?)
}

/// The page.
pub fn page() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        let about = Man::new(one.clone());
        writeln!(page, ".SH {}", one.get_name().to_uppercase())?;
        writeln!(page, "{}", one.get_about().cloned().unwrap_or_default())?;
        let mut options = Vec::new();
        about.render_options_section(&mut options)?;
        page.extend(String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "").bytes());
    }
    page.extend(FILES.as_bytes());
    Ok(page)
}
