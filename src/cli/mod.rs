//! The command line: its [`grammar`], and one file per verb, with the verb's arguments. `dev` and `serve` run in `main`.
//!
//! Most verbs are HTTP clients like any other, so they work from any machine. Only `doctor` looks at the
//! database and the keys, as `serve` would. Nothing here waits for ever: a call takes at most
//! [`refusal::CALL_MAX`], and a stream that is silent for 40 s is opened again.
//!
//! Lines for people hold names that users chose, so control characters are replaced before they reach a
//! terminal ([`out::plain`]).

mod arguments;
mod attendance;
pub mod client;
mod completions;
mod doctor;
mod failure;
mod format;
pub mod grammar;
mod kick;
mod metrics;
pub mod migrate;
mod occupancy;
mod openapi;
pub mod out;
mod past;
pub mod refusal;
mod revoke;
mod sse;
mod table;
mod token;
mod top;
mod user;
mod watch;
mod who;

use std::process::ExitCode;

use clap::CommandFactory;

use failure::Failure;
use grammar::{Cli, Verb};
use out::Out;

/// Runs a verb. Returns 0 when it is done, 1 when it failed, 2 when the command line is not valid.
pub async fn run(verb: Verb) -> ExitCode {
    let mut out = Out::new();
    let result = match verb {
        Verb::Migrate(wanted) => migrate::run(&wanted, &mut out).await,
        Verb::Openapi => openapi::run(&mut out),
        Verb::Token(token) => token::run(token, &mut out),
        Verb::Who(who) => who::run(who, &mut out).await,
        Verb::User(user) => user::run(user, &mut out).await,
        Verb::Watch(watch) => watch::run(watch, &mut out).await,
        Verb::Top(top) => top::run(top, &mut out).await,
        Verb::Attendance(attendance) => attendance::run(attendance, &mut out).await,
        Verb::Occupancy(occupancy) => occupancy::run(occupancy, &mut out).await,
        Verb::Kick(kick) => kick::run(kick, &mut out).await,
        Verb::Revoke(revoke) => revoke::run(revoke, &mut out).await,
        Verb::Doctor(doctor) => match doctor::run(*doctor, &mut out).await {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE, // it has said why
            Err(failure) => Err(failure),
        },
        Verb::Completions(wanted) => completions::run(&wanted, Cli::command(), &mut out),
    };
    match result {
        // A reader that has had enough, such as `head`, is no failure.
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure) => {
            out::note(&failure.to_string());
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}
