//! `headcount completions`

use clap::CommandFactory;

use super::Failure;
use super::out::Out;
use crate::settings::{Cli, verbs::Completions};

/// Prints the script, which is made from the same description of the command line as `--help`.
pub fn run(wanted: &Completions, out: &mut Out) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, &mut Cli::command(), "headcount", &mut script);
    out.raw(&String::from_utf8_lossy(&script))
}
