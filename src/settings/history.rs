//! What can be asked of a room's past.

use clap::Args;
use time::OffsetDateTime;

use super::verbs::{Target, moment, room, user};
use crate::domain::id::{RoomId, UserId};

/// From when to when.
#[derive(Args, Debug, Clone)]
pub struct Range {
    /// Beginning: a moment like 2026-11-24T12:00:00Z, or `15m` for so long ago; a day before the end if not given
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub from: Option<OffsetDateTime>,
    /// End, not included, written likewise; now if not given
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub to: Option<OffsetDateTime>,
}

/// `headcount attendance`
#[derive(Args, Debug)]
pub struct Attendance {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// When
    #[command(flatten)]
    pub range: Range,
    /// Only this user's
    #[arg(long, value_parser = user)]
    pub user: Option<UserId>,
    /// The time zone that makes the days, such as Europe/Berlin; UTC if not given
    #[arg(long)]
    pub tz: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: Target,
}

/// `headcount occupancy`
#[derive(Args, Debug)]
pub struct Occupancy {
    /// The room
    #[arg(value_parser = room)]
    pub room: RoomId,
    /// When
    #[command(flatten)]
    pub range: Range,
    /// How long each bucket is: a number and s, m, h or d
    #[arg(long, default_value = "1h")]
    pub bucket: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: Target,
}
