//! `headcount attendance`

use serde::{Deserialize, Serialize};

use super::Failure;
use super::client::{Client, encoded};
use super::out::Out;
use super::table::Table;
use super::who::{readable, rfc3339};
use crate::settings::history::Attendance;

/// Rows on a page: as many as there may be.
const PAGE: usize = 1000;

/// A user's time on a day.
#[derive(Deserialize, Serialize)]
struct Row {
    user: String,
    day: String,
    minutes: f64,
}

/// A page, or all of them.
#[derive(Deserialize, Serialize)]
struct Page {
    room: String,
    from: String,
    to: String,
    complete_from: String,
    rows: Vec<Row>,
    #[serde(skip_serializing)]
    next: Option<String>,
}

/// Prints how long each user was there, for each day.
pub async fn run(wanted: Attendance, out: &mut Out) -> Result<(), Failure> {
    let client = Client::new(&wanted.target)?;
    let asked = (wanted.range.from.map(rfc3339), wanted.range.to.map(rfc3339));
    let mut all = page(&client, &wanted, asked, None).await?;
    while let Some(after) = all.next.take() {
        // Of the same range as the first: without an end, a later page would be of a later one.
        let range = (Some(all.from.clone()), Some(all.to.clone()));
        let mut page = page(&client, &wanted, range, Some(&after)).await?;
        all.rows.append(&mut page.rows);
        all.next = page.next;
    }
    if wanted.json {
        return out.json(&all);
    }
    let Page { room, from, to, complete_from, rows, .. } = all;
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

/// What the log no longer holds counts for nobody, so it is said.
pub(super) fn incomplete(from: &str, complete_from: &str) -> String {
    if complete_from <= from {
        return String::new();
    }
    format!("; the log begins at {}", readable(complete_from))
}

async fn page(
    client: &Client,
    wanted: &Attendance,
    (from, to): (Option<String>, Option<String>),
    after: Option<&str>,
) -> Result<Page, Failure> {
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
