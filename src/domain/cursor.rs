//! Positions in a room's event log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Names a history within which versions are comparable. Cursors of different epochs say nothing about each
/// other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Epoch(Arc<str>);

/// `<epoch>.<version>`: everything up to and including this version has been seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// The history it belongs to.
    pub epoch: Epoch,
    /// The last version seen; 0 is before the first event.
    pub version: i64,
}

/// Not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is <epoch>.<version>, for example 1f0c2a910.42")]
pub struct CursorError;

impl Epoch {
    /// Checks an epoch: 1 to 32 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let fits = (1..=32).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.into()))
        } else {
            Err(CursorError)
        }
    }

    /// An epoch that no database has. A malformed cursor is read as one of this epoch, so that its watcher
    /// gets a snapshot.
    pub fn foreign() -> Self {
        Self("0".into())
    }

    /// The epoch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (epoch, version) = text.split_once('.').ok_or(CursorError)?;
        let digits = (1..=18).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(CursorError);
        }
        Ok(Self { epoch: Epoch::parse(epoch)?, version: version.parse().map_err(|_| CursorError)? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch.as_str(), self.version)
    }
}

/// Parses the cursors of a stream over several rooms: in the order of its rooms, joined by commas.
pub fn parse_joined(text: &str, rooms: usize) -> Result<Vec<Cursor>, CursorError> {
    let cursors: Vec<Cursor> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    if cursors.len() == rooms { Ok(cursors) } else { Err(CursorError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_written() {
        let cursor: Cursor = "1f0c2a910.42".parse().unwrap();
        assert_eq!((cursor.epoch.as_str(), cursor.version), ("1f0c2a910", 42));
        assert_eq!(cursor.to_string(), "1f0c2a910.42");
    }

    #[test]
    fn what_is_not_a_cursor_is_refused() {
        for bad in ["", ".", "a.", ".1", "a.-1", "a.1.2", "g.1", "a.1x", "a. 1", "a.1234567890123456789"] {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad:?}");
        }
    }

    #[test]
    fn joined_cursors_must_match_the_rooms() {
        assert_eq!(parse_joined("a.1,b.2", 2).unwrap().len(), 2);
        assert_eq!(parse_joined("a.1,b.2", 3), Err(CursorError));
    }
}
