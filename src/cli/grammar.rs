//! The grammar of the command line: subcommands and their help.

use clap::builder::Resettable;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::attendance::AttendanceArgs;
use super::completions::CompletionsArgs;
use super::doctor::DoctorArgs;
use super::kick::KickArgs;
use super::migrate::MigrateArgs;
use super::occupancy::OccupancyArgs;
use super::revoke::RevokeArgs;
use super::token::TokenArgs;
use super::top::TopArgs;
use super::user::UserArgs;
use super::watch::WatchArgs;
use super::who::WhoArgs;
use crate::settings::{Dev, Serve};

/// Presence: which users are online, in which room, with which status, right now.
#[derive(Parser, Debug)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Invocation,
}

impl Cli {
    /// Reads the command line and the environment; ends the process where they cannot be used.
    ///
    /// A variable that is set to nothing counts as not set: that is how compose files and unit files leave
    /// one out.
    pub fn read() -> Self {
        let set_to_nothing =
            |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let leave_out = |arg: Arg| match arg.get_env() {
            Some(name) if set_to_nothing(name) => arg.env(Resettable::Reset),
            _ => arg,
        };
        let command = Self::command().mut_subcommands(|command| command.mut_args(leave_out));
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Invocation {
    /// Run on a private Postgres with development keys and a demo page, on this machine only
    Dev(Box<Dev>),
    /// Run on your Postgres, with your keys
    Serve(Box<Serve>),
    /// Anything else
    #[command(flatten)]
    Verb(Verb),
}

/// Exit codes, for every verb's `--help`.
const EXITS: &str =
    "Exit code: 0 done, 1 failed (standard error says why and what to do), 2 not a valid command line.";

/// Subcommands other than `dev` and `serve`. Most are HTTP clients of a running service.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Bring the database's schema up to date, and stop
    Migrate(MigrateArgs),
    /// Print the OpenAPI document
    Openapi,
    /// Print a token for trying things
    Token(TokenArgs),
    /// Print who is in a room, or who was
    #[command(after_help = EXITS)]
    Who(WhoArgs),
    /// Print where users are, and when they were last seen
    #[command(after_help = EXITS)]
    User(UserArgs),
    /// Print changes of rooms as they happen, until Ctrl-C
    #[command(after_help = EXITS)]
    Watch(WatchArgs),
    /// Show rooms, replicas and rates, again and again
    #[command(after_help = EXITS)]
    Top(TopArgs),
    /// Print how long users were in a room, for each day
    #[command(after_help = EXITS)]
    Attendance(AttendanceArgs),
    /// Print how many members a room had, and the most at once
    #[command(after_help = EXITS)]
    Occupancy(OccupancyArgs),
    /// Remove a member from a room
    #[command(after_help = EXITS)]
    Kick(KickArgs),
    /// End a user's sessions, and refuse the tokens that they have
    #[command(after_help = EXITS)]
    Revoke(RevokeArgs),
    /// Look for what is wrong with a set-up, and say what mends it
    #[command(
        after_help = "Takes what `serve` takes, from the same variables; with --url it also looks at a running \
        service, from here.\n\nExit code: 0 nothing is broken (there may be warnings), 1 something is, 2 not a valid command line."
    )]
    Doctor(Box<DoctorArgs>),
    /// Print a script that completes this command in a shell
    #[command(after_help = "For bash: source <(headcount completions bash)")]
    Completions(CompletionsArgs),
}
