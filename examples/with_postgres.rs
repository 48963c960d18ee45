//! Runs a command with a Postgres of its own: `cargo run --example with_postgres -- COMMAND ARGS...`
//!
//! The command finds the URL of the database `postgres` in `HEADCOUNT_TEST_POSTGRES_URL`. Afterwards Postgres
//! and all its data are gone, and the exit code is the command's. SIGINT and SIGTERM are passed on to the
//! command; it decides when to end, and clean-up follows.
#![expect(clippy::print_stderr, reason = "a command line tool speaks on standard error")]

use std::{
    env,
    error::Error,
    ffi::OsString,
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use headcount::store::embedded::{Durability, EmbeddedOptions, EmbeddedPostgres};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

/// nextest runs a test per processor, each with a few pools of its own.
const MAX_CONNECTIONS: u16 = 400;
/// What shells answer when a command cannot be run.
const CANNOT_RUN: u8 = 127;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let command: Vec<_> = env::args_os().skip(1).skip_while(|argument| argument == "--").collect();
    match with_postgres(&command).await {
        Ok(status) => code(status),
        Err(error) => {
            eprintln!("with_postgres: {error}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

async fn with_postgres(command: &[OsString]) -> Result<ExitStatus, Box<dyn Error>> {
    let [program, args @ ..] = command else {
        return Err("usage: with_postgres COMMAND ARGS...".into());
    };
    let dir = tempfile::Builder::new().prefix("headcount-test-").tempdir()?;
    let mut passed_on = Signals::new()?;
    // Not cut short by a signal, so that there is always a whole Postgres to stop; the command gets it then.
    let postgres = EmbeddedPostgres::start(EmbeddedOptions {
        data_dir: dir.path().to_owned(),
        durability: Durability::Off,
        max_connections: MAX_CONNECTIONS,
    })
    .await?;
    let url = postgres.database_url("postgres");
    let child = Command::new(program).args(args).env("HEADCOUNT_TEST_POSTGRES_URL", url).spawn();
    let ended = match child {
        Ok(child) => until_ended(child, &mut passed_on).await,
        Err(error) => Err(error),
    };
    // Before the directory is removed, whatever came of the command.
    postgres.stop().await?;
    ended.map_err(|error| format!("{}: {error}", program.display()).into())
}

async fn until_ended(mut child: Child, passed_on: &mut Signals) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            ended = child.wait() => return ended,
            signal = passed_on.next() => pass_on(&child, signal),
        }
    }
}

/// Ctrl-C in a terminal reaches the command without us, and a second one means "now!" to many.
fn pass_on(child: &Child, signal: Signal) {
    let from_terminal = signal == Signal::INT && io::stdin().is_terminal();
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let (Some(pid), false) = (pid, from_terminal) {
        // It may have just ended.
        let _ = kill_process(pid, signal);
    }
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
        }
    }
}

/// As shells do: 128 and the number of the signal that ended it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
