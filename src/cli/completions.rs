//! `headcount completions`

use clap::Args;
use clap::Command;

use super::failure::Failure;
use super::out::Out;

/// `headcount completions`
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// Prints the script, which is made from the same description of the command line as `--help`.
pub fn run(wanted: &CompletionsArgs, mut grammar: Command, out: &mut Out) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, &mut grammar, "headcount", &mut script);
    out.raw(&String::from_utf8_lossy(&script))
}
