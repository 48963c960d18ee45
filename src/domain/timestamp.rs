//! How a moment crosses the wire: RFC 3339 in UTC with milliseconds, always of the same length, so that what was
//! read from the log and what was read from a table are the same text.

use serde::{Deserialize, Deserializer, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Writes a moment.
pub fn serialize<S: Serializer>(moment: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let utc = moment.to_offset(time::UtcOffset::UTC);
    let (date, (hour, minute, second, milli)) = (utc.date(), utc.time().as_hms_milli());
    serializer.collect_str(&format_args!("{date}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"))
}

/// Reads a moment.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)
}

/// The same, where there may be none.
pub mod option {
    use serde::Serializer;
    use time::OffsetDateTime;

    /// Writes a moment or null.
    pub fn serialize<S: Serializer>(
        moment: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match moment {
            Some(moment) => super::serialize(moment, serializer),
            None => serializer.serialize_none(),
        }
    }
}
