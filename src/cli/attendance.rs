//! `headcount attendance`

use clap::Args;
use serde::{Deserialize, Serialize};

use super::arguments::{RangeArgs, ServiceArgs, room, user};
use super::client::{Client, PAGE, encoded};
use super::failure::Failure;
use super::format::{readable, rfc3339};
use super::out::Out;
use super::table::Table;
use crate::domain::id::{RoomId, UserId};

/// `headcount attendance`
#[derive(Args, Debug)]
pub struct AttendanceArgs {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// The time range
    #[command(flatten)]
    pub range: RangeArgs,
    /// Only this user
    #[arg(long, value_parser = user)]
    pub user: Option<UserId>,
    /// The time zone in which days begin, such as Europe/Berlin; UTC if not given
    #[arg(long)]
    pub tz: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: ServiceArgs,
}

/// A user's time on a day.
#[derive(Deserialize, Serialize)]
struct Row {
    user: String,
    day: String,
    minutes: f64,
}

/// A page, or all of them.
#[derive(Deserialize, Serialize)]
struct AttendancePage {
    room: String,
    from: String,
    to: String,
    complete_from: String,
    rows: Vec<Row>,
    #[serde(skip_serializing)]
    next: Option<String>,
}

/// Prints how long each user was there, for each day.
pub async fn run(wanted: AttendanceArgs, out: &mut Out) -> Result<(), Failure> {
    let client = Client::new(&wanted.target)?;
    let asked = (wanted.range.from.map(rfc3339), wanted.range.to.map(rfc3339));
    let mut all = page(&client, &wanted, asked, None).await?;
    while let Some(after) = all.next.take() {
        // The range of the first page: without an end, the range of each later page would end later.
        let range = (Some(all.from.clone()), Some(all.to.clone()));
        let mut page = page(&client, &wanted, range, Some(&after)).await?;
        all.rows.append(&mut page.rows);
        all.next = page.next;
    }
    if wanted.json {
        return out.json(&all);
    }
    let AttendancePage { room, from, to, complete_from, rows, .. } = all;
    out.line(&format!(
        "{room} from {} to {}{}",
        readable(&from),
        readable(&to),
        incomplete(&from, &complete_from)
    ))?;
    let mut table = Table::new(&["USER", "DAY", ">MINUTES"]);
    for Row { user, day, minutes } in rows {
        table.row([user, day, format!("{minutes:.2}")]);
    }
    table.lines().iter().try_for_each(|line| out.line(line))
}

/// A note if the log does not reach back to the beginning of the range: the time before is counted for
/// nobody.
pub(super) fn incomplete(from: &str, complete_from: &str) -> String {
    if complete_from <= from {
        return String::new();
    }
    format!("; the log begins at {}", readable(complete_from))
}

async fn page(
    client: &Client,
    wanted: &AttendanceArgs,
    (from, to): (Option<String>, Option<String>),
    after: Option<&str>,
) -> Result<AttendancePage, Failure> {
    let given = [
        ("from", from),
        ("to", to),
        ("user", wanted.user.as_ref().map(ToString::to_string)),
        ("tz", wanted.tz.clone()),
        ("after", after.map(str::to_owned)),
    ];
    let mut path = format!("/v1/rooms/{}/history/attendance?limit={PAGE}", wanted.room);
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        path = format!("{path}&{name}={}", encoded(&value));
    }
    Ok(client.get(&path).await?)
}
