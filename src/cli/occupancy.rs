//! `headcount occupancy`

use clap::Args;
use serde::{Deserialize, Serialize};

use super::arguments::{RangeArgs, ServiceArgs, room};
use super::attendance::incomplete;
use super::client::{Client, encoded};
use super::failure::Failure;
use super::format::{readable, rfc3339};
use super::out::Out;
use super::table::Table;
use crate::domain::id::RoomId;

/// `headcount occupancy`
#[derive(Args, Debug)]
pub struct OccupancyArgs {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// The time range
    #[command(flatten)]
    pub range: RangeArgs,
    /// How long each bucket is: a number and s, m, h or d
    #[arg(long, default_value = "1h")]
    pub bucket: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: ServiceArgs,
}

/// Characters of the longest bar.
const BAR: i64 = 40;

/// A number of members, and its time.
#[derive(Deserialize, Serialize)]
struct MemberCount {
    at: String,
    count: i64,
}

/// The occupancy of a room.
#[derive(Deserialize, Serialize)]
struct Counts {
    room: String,
    from: String,
    to: String,
    complete_from: String,
    peak: MemberCount,
    buckets: Vec<MemberCount>,
}

/// Prints the most members at once, in the whole range and in each bucket.
pub async fn run(wanted: OccupancyArgs, out: &mut Out) -> Result<(), Failure> {
    let client = Client::new(&wanted.target)?;
    let mut path = format!("/v1/rooms/{}/history/occupancy?bucket={}", wanted.room, encoded(&wanted.bucket));
    for (name, moment) in [("from", wanted.range.from), ("to", wanted.range.to)] {
        if let Some(moment) = moment {
            path = format!("{path}&{name}={}", encoded(&rfc3339(moment)));
        }
    }
    let counts: Counts = client.get(&path).await?;
    if wanted.json {
        return out.json(&counts);
    }
    let Counts { room, from, to, complete_from, peak, buckets } = counts;
    out.line(&format!(
        "{room} from {} to {}{}",
        readable(&from),
        readable(&to),
        incomplete(&from, &complete_from)
    ))?;
    out.line(&format!("at most {}, first at {}", peak.count, readable(&peak.at)))?;
    let mut table = Table::new(&["FROM", ">MOST", ""]);
    for MemberCount { at, count } in buckets {
        table.row([readable(&at), count.to_string(), bar(count, peak.count)]);
    }
    table.lines().iter().try_for_each(|line| out.line(line))
}

fn bar(count: i64, most: i64) -> String {
    "#".repeat(usize::try_from(count * BAR / most.max(1)).unwrap_or(0))
}
