//! Formats moments and statuses, for people and for the wire.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::domain::member::{Member, Status};

/// Of today: `12:01:03Z`.
pub fn clock(moment: OffsetDateTime) -> String {
    let (hour, minute, second) = moment.to_offset(UtcOffset::UTC).to_hms();
    format!("{hour:02}:{minute:02}:{second:02}Z")
}

/// `2026-11-24 12:01:03Z`
pub fn moment(moment: OffsetDateTime) -> String {
    format!("{} {}", moment.to_offset(UtcOffset::UTC).date(), clock(moment))
}

/// As it crosses the wire.
pub fn rfc3339(moment: OffsetDateTime) -> String {
    let text = moment.format(&Rfc3339);
    text.expect("a moment that was read from text can be written")
}

/// Their status, and whether others see them.
pub fn shown(member: &Member) -> String {
    let status = word(member.status);
    if member.invisible { format!("{status}, invisible") } else { status.to_owned() }
}

/// Their status.
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Idle => "idle",
        Status::Dnd => "dnd",
    }
}

/// `2026-11-24T12:01:03.456Z` as people write it.
pub fn readable(moment: &str) -> String {
    let seconds = moment.split_once('.').map_or(moment.to_owned(), |(seconds, _)| format!("{seconds}Z"));
    seconds.replacen('T', " ", 1)
}
