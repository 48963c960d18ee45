//! `headcount top`: polls a service, and shows totals, rooms, replicas and rates.
//!
//! A poll costs the database a few statements, so that `top` may run all day: an overview, and the position
//! of each room that it shows. Totals, rooms and replicas are those of the whole deployment. Watchers and
//! heartbeats are those of the replica that answers, since no replica knows those of the others.

mod look;
mod screen;
mod view;

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::arguments::ServiceArgs;
use super::client::Client;
use super::failure::Failure;
use super::format::clock;
use super::out::{self, Out};
use super::refusal::CallError;
use super::watch::interrupted;
use crate::settings::duration;
use look::Look;
use screen::Screen;

/// `headcount top`
#[derive(Args, Debug)]
pub struct TopArgs {
    /// Time between two polls [500ms to 1h]
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub interval: Duration,
    /// Poll twice, one interval apart, print one table, and stop; implied when standard output is no terminal
    #[arg(long)]
    pub once: bool,
    /// Rooms to show, the fullest first
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub rooms: u8,
    /// Which service
    #[command(flatten)]
    pub target: ServiceArgs,
}

/// Bounds of the interval.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(3600);

/// Shows it, once or until it is told to stop.
pub async fn run(wanted: TopArgs, out: &mut Out) -> Result<(), Failure> {
    if !INTERVALS.contains(&wanted.interval) {
        return Err(Failure::Usage("--interval is 500ms to 1h".into()));
    }
    let client = Client::new(&wanted.target)?;
    let first = Look::take(&client, wanted.rooms).await?;
    if wanted.once || !out.is_terminal() {
        sleep(wanted.interval).await;
        let second = Look::take(&client, wanted.rooms).await?;
        let lines = view::lines(client.base(), &second, Some(&first));
        return lines.iter().try_for_each(|line| out.line(line));
    }
    let screen = Screen::enter(out)?;
    tokio::select! {
        failed = show(&client, &wanted, first, &screen) => failed,
        () = interrupted() => Ok(()),
        () = screen.quit() => Ok(()),
        () = out::closed() => Err(Failure::Closed),
    }
}

/// Returns only failures of the terminal. A poll that fails is retried after the next interval: the operator
/// may want to see a restart.
async fn show(client: &Client, wanted: &TopArgs, first: Look, screen: &Screen) -> Result<(), Failure> {
    let mut resized = signal(SignalKind::window_change()).expect("a signal handler can be installed");
    let (mut now, mut before) = (first, None);
    let mut lines = view::lines(client.base(), &now, None);
    loop {
        screen.draw(&lines)?;
        tokio::select! {
            () = sleep(wanted.interval) => {}
            _ = resized.recv() => continue,
        }
        match Look::take(client, wanted.rooms).await {
            Ok(look) => {
                before = Some(std::mem::replace(&mut now, look));
                lines = view::lines(client.base(), &now, before.as_ref());
            }
            Err(error) => lines = troubled(&error, view::lines(client.base(), &now, before.as_ref())),
        }
    }
}

fn troubled(error: &CallError, lines: Vec<String>) -> Vec<String> {
    let trouble = format!("{}: {error}", clock(time::OffsetDateTime::now_utc()));
    [trouble, "What was known before:".into(), String::new()].into_iter().chain(lines).collect()
}
