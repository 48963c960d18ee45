//! What can be asked of a running service, and what `doctor` needs to know.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use secrecy::SecretString;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::history::{Attendance, Occupancy};
use super::{Database, Listening, TlsFiles, TokenKeys, Tuning, duration};
use crate::domain::id::{RoomId, UserId};

/// Exit codes, for every verb's `--help`.
const EXITS: &str =
    "Exit code: 0 done, 1 failed (standard error says why and what to do), 2 not a valid command line.";

/// Asks a running service, or looks whether one can run.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Print who is in a room, or who was
    #[command(after_help = EXITS)]
    Who(Who),
    /// Print where users are, and when they were last seen
    #[command(after_help = EXITS)]
    User(User),
    /// Print changes of rooms as they happen, until Ctrl-C
    #[command(after_help = EXITS)]
    Watch(Watch),
    /// Show rooms, replicas and rates, again and again
    #[command(after_help = EXITS)]
    Top(Top),
    /// Print how long users were in a room, for each day
    #[command(after_help = EXITS)]
    Attendance(Attendance),
    /// Print how many members a room had, and the most at once
    #[command(after_help = EXITS)]
    Occupancy(Occupancy),
    /// Remove a member from a room
    #[command(after_help = EXITS)]
    Kick(Kick),
    /// Look for what is wrong with a set-up, and say what mends it
    #[command(
        after_help = "Takes what `serve` takes, from the same variables; with --url it also looks at a running \
        service, from here.\n\nExit code: 0 nothing is broken (there may be warnings), 1 something is, 2 not a valid command line."
    )]
    Doctor(Box<Doctor>),
    /// Print a script that completes this command in a shell
    #[command(after_help = "For bash: source <(headcount completions bash)")]
    Completions(Completions),
}

/// Which service, and who is asking.
#[derive(Args, Debug, Clone)]
pub struct Target {
    /// Address of the service
    #[arg(long, env = "HEADCOUNT_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// Who is asking
    #[command(flatten)]
    pub credential: Credential,
}

/// Who is asking.
#[derive(Args, Debug, Clone)]
pub struct Credential {
    /// Ask as an application's server, with this key; of several separated by commas, the first
    #[arg(long, env = "HEADCOUNT_SERVER_KEY", hide_env_values = true, value_name = "KEY")]
    pub server_key: Option<SecretString>,
    /// Ask as a user, with this token; goes before the server key
    #[arg(long, env = "HEADCOUNT_TOKEN", hide_env_values = true)]
    pub token: Option<SecretString>,
}

/// `headcount who`
#[derive(Args, Debug)]
pub struct Who {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// Who was there then: a moment like 2026-11-24T12:00:00Z, or `15m` for so long ago
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub at: Option<OffsetDateTime>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: Target,
}

/// `headcount user`
#[derive(Args, Debug)]
pub struct User {
    /// User ids
    #[arg(required = true, value_parser = user, value_name = "USER")]
    pub users: Vec<UserId>,
    /// Print a JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: Target,
}

/// `headcount watch`
#[derive(Args, Debug)]
pub struct Watch {
    /// The rooms, at most 32
    #[arg(required = true, num_args = 1..=32, value_parser = room, value_name = "ROOM")]
    pub rooms: Vec<RoomId>,
    /// How much to print
    #[arg(long, value_enum, default_value = "diff")]
    pub mode: WatchMode,
    /// Print each frame as a line of JSON
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: Target,
}

/// How much to print.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// Who is there, then who joins, changes and leaves.
    Diff,
    /// The whole list at each change.
    List,
    /// How many there are, at each change.
    Count,
}

/// `headcount top`
#[derive(Args, Debug)]
pub struct Top {
    /// Between two looks [500ms to 1h]
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub interval: Duration,
    /// Look twice, one interval apart, print one table, and stop; so it is, too, when standard output is no terminal
    #[arg(long)]
    pub once: bool,
    /// Rooms to show, the fullest first
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub rooms: u8,
    /// Which service
    #[command(flatten)]
    pub target: Target,
}

/// `headcount kick`
#[derive(Args, Debug)]
pub struct Kick {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// Whom
    #[arg(value_parser = user)]
    pub user: UserId,
    /// Which service
    #[command(flatten)]
    pub target: Target,
}

/// `headcount doctor`
#[derive(Args, Debug)]
pub struct Doctor {
    /// A running service to look at, from here
    #[arg(long, env = "HEADCOUNT_URL", value_name = "URL")]
    pub url: Option<String>,
    /// With what to ask it; else one is signed with HEADCOUNT_JWT_SECRET
    #[command(flatten)]
    pub credential: Credential,
    /// Do not wait 16 s to see whether something cuts streams that are silent
    #[arg(long)]
    pub quick: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which database
    #[command(flatten)]
    pub database: Database,
    /// How to listen to it
    #[command(flatten)]
    pub listening: Listening,
    /// What checks tokens
    #[command(flatten)]
    pub token_keys: TokenKeys,
    /// What to show to clients that speak TLS
    #[command(flatten)]
    pub tls: TlsFiles,
    /// Everything else
    #[command(flatten)]
    pub tuning: Tuning,
}

/// `headcount completions`
#[derive(Args, Debug)]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}

pub(super) fn room(text: &str) -> Result<RoomId, String> {
    RoomId::parse(text).map_err(|error| error.to_string())
}

pub(super) fn user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|error| error.to_string())
}

/// A moment, or how long ago it was by this machine's clock.
pub(super) fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let wanted = "a moment like 2026-11-24T12:00:00Z, or how long ago it was, like 15m";
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    let ago = humantime::parse_duration(text).map_err(|_| wanted)?;
    OffsetDateTime::now_utc()
        .checked_sub(time::Duration::try_from(ago).map_err(|_| wanted)?)
        .ok_or(wanted.into())
}
