//! The query parameters of the history calls, and their checks.

use std::time::Duration;

use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::IntoParams;

use crate::domain::id::UserId;
use crate::domain::timestamp::parse;
use crate::http::request::problem::{Code, Problem};
use crate::store::history::{AskedRange, Attendees};

/// Rows on a page, at most.
const PAGE_MAX: i64 = 1000;

/// Which moment, and which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MembersQuery {
    /// The time, to the microsecond. Events at exactly this time are included.
    #[param(format = DateTime, example = "2026-01-31T12:00:00Z")]
    at: String,
    /// Members on the page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100, example = 100)]
    limit: Option<i64>,
    /// Members after this user id: the `next` of the page before.
    #[param(pattern = r"^[^\u0000]*$")]
    after: Option<String>,
}

/// Which days, which user, and which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttendanceQuery {
    /// Beginning of the range; a day before its end if not given.
    #[param(format = DateTime, example = "2026-01-31T00:00:00Z")]
    from: Option<String>,
    /// Its end, not included; now if not given or not over yet.
    #[param(format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// Only this user.
    user: Option<UserId>,
    /// The time zone in which days begin, by its name.
    #[param(
        default = "UTC",
        example = "Europe/Berlin",
        max_length = 64,
        pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"
    )]
    tz: Option<String>,
    /// Rows on the page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100, example = 100)]
    limit: Option<i64>,
    /// Rows after this one: the `next` of the page before.
    #[param(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\.[^\u0000]*$")]
    after: Option<String>,
}

/// Which range, and how long the buckets are.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OccupancyQuery {
    /// Beginning of the range; a day before its end if not given.
    #[param(format = DateTime, example = "2026-01-31T00:00:00Z")]
    from: Option<String>,
    /// Its end, not included; now if not given or not over yet.
    #[param(format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// Length of a bucket, such as `30s`, `5m`, `1h`, `7d`: at most 2000 in the range.
    #[param(default = "1h", example = "15m", pattern = r"^[1-9][0-9]{0,3}[smhd]$")]
    bucket: Option<String>,
}

impl MembersQuery {
    /// Time, limit and start.
    pub(super) fn check(self) -> Result<(OffsetDateTime, i64, String), Problem> {
        let (at, limit, after) =
            (moment(&self.at, "at")?, limit(self.limit)?, self.after.unwrap_or_default());
        if after.contains('\0') {
            Err(Problem::with(Code::InvalidQuery, "after holds U+0000"))
        } else {
            Ok((at, limit, after))
        }
    }
}

impl AttendanceQuery {
    /// The range, with the filter and the page.
    pub(super) fn check(self) -> Result<(AskedRange, Attendees), Problem> {
        let asked = range(self.from.as_deref(), self.to.as_deref())?;
        let (zone, after) = (zone(self.tz)?, row_after(self.after.as_deref())?);
        Ok((asked, Attendees { user: self.user, zone, after, limit: limit(self.limit)? }))
    }
}

impl OccupancyQuery {
    /// The range, and the length of a bucket.
    pub(super) fn check(&self) -> Result<(AskedRange, Duration), Problem> {
        Ok((range(self.from.as_deref(), self.to.as_deref())?, bucket(self.bucket.as_deref())?))
    }
}

fn limit(given: Option<i64>) -> Result<i64, Problem> {
    let limit = given.unwrap_or(100);
    if (1..=PAGE_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::with(Code::InvalidQuery, format!("limit is 1 to {PAGE_MAX}")))
    }
}

/// Parses a time. In a query, a plus sign that was not escaped arrives as a space.
fn moment(text: &str, name: &str) -> Result<OffsetDateTime, Problem> {
    let wrong =
        || Problem::with(Code::InvalidQuery, format!("{name} is a time such as 2026-01-31T12:00:00Z"));
    parse(&text.replace(' ', "+")).ok_or_else(wrong)
}

fn range(from: Option<&str>, to: Option<&str>) -> Result<AskedRange, Problem> {
    let from = from.map(|text| moment(text, "from")).transpose()?;
    let to = to.map(|text| moment(text, "to")).transpose()?;
    match (from, to) {
        (Some(from), Some(to)) if from >= to => Err(Problem::with(Code::InvalidQuery, "from is before to")),
        _ => Ok(AskedRange { from, to }),
    }
}

fn zone(tz: Option<String>) -> Result<String, Problem> {
    let zone = tz.unwrap_or_else(|| "UTC".into());
    let fits = zone.len() <= 64
        && zone.starts_with(|first: char| first.is_ascii_alphabetic())
        && zone.chars().all(|c| c.is_ascii_alphanumeric() || "_+/-".contains(c));
    if fits { Ok(zone) } else { Err(Problem::with(Code::InvalidQuery, "tz is a name such as Europe/Berlin")) }
}

/// User and day of the row that a page begins after.
fn row_after(after: Option<&str>) -> Result<(String, String), Problem> {
    let Some(after) = after else { return Ok(Default::default()) };
    let fits = |day: &str| day.len() == 10 && day.chars().all(|c| c.is_ascii_digit() || c == '-');
    match after.split_once('.') {
        Some((day, user)) if fits(day) && !user.contains('\0') => Ok((user.to_owned(), day.to_owned())),
        _ => Err(Problem::with(Code::InvalidQuery, "after is the next of the page before")),
    }
}

fn bucket(text: Option<&str>) -> Result<Duration, Problem> {
    let text = text.unwrap_or("1h");
    let wrong =
        || Problem::with(Code::InvalidQuery, "bucket is a whole number and s, m, h or d, such as 15m");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    match number.parse::<u64>() {
        Ok(number) if (1..10_000).contains(&number) => Ok(Duration::from_secs(number * seconds)),
        _ => Err(wrong()),
    }
}
