//! Decodes texts of the database into values of the domain. An unknown text is a [`StoreError::Bug`] and never a
//! default: clients would be told a guess as if it were a fact.
//!
//! A row that cannot be decoded costs its own room, and no other: what reads many rooms in one statement decodes each
//! room by itself, and counts what it leaves out ([`counted`]).

use super::StoreError;
use crate::domain::cursor::Epoch;
use crate::domain::event::Reason;
use crate::domain::id::{RoomId, UserId};
use crate::domain::member::Member;
use crate::measure::meters;

/// Kind of an event in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EventKind {
    Joined,
    Updated,
    Left(Reason),
}

pub(super) fn event_kind(kind: &str, reason: Option<&str>) -> Result<EventKind, StoreError> {
    match (kind, reason) {
        ("joined", None) => Ok(EventKind::Joined),
        ("updated", None) => Ok(EventKind::Updated),
        ("left", Some("left")) => Ok(EventKind::Left(Reason::Left)),
        ("left", Some("expired")) => Ok(EventKind::Left(Reason::Expired)),
        ("left", Some("kicked")) => Ok(EventKind::Left(Reason::Kicked)),
        ("joined" | "updated" | "left", reason) => {
            Err(StoreError::unknown("reason", reason.unwrap_or("null")))
        }
        (kind, _) => Err(StoreError::unknown("kind", kind)),
    }
}

pub(super) fn epoch(text: &str) -> Result<Epoch, StoreError> {
    Epoch::parse(text).map_err(StoreError::decoding)
}

pub(super) fn room(text: &str) -> Result<RoomId, StoreError> {
    RoomId::parse(text).map_err(StoreError::decoding)
}

pub(super) fn user(text: &str) -> Result<UserId, StoreError> {
    UserId::parse(text).map_err(StoreError::decoding)
}

pub(super) fn member(json: &str) -> Result<Member, StoreError> {
    serde_json::from_str(json).map_err(StoreError::decoding)
}

/// Counts what cannot be decoded. `reader` is a label of the metric.
pub(super) fn counted<T>(reader: &str, decoded: Result<T, StoreError>) -> Result<T, StoreError> {
    if decoded.is_err() {
        meters().unreadable.count(reader, 1);
    }
    decoded
}

/// Turns the number of a `with ordinality` into an index.
pub(super) fn index(ordinality: i64) -> usize {
    usize::try_from(ordinality - 1).expect("ordinality counts from 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_reason_of_the_log_is_understood() {
        let of = |kind, reason| event_kind(kind, reason).unwrap();
        assert_eq!(of("joined", None), EventKind::Joined);
        assert_eq!(of("updated", None), EventKind::Updated);
        assert_eq!(of("left", Some("left")), EventKind::Left(Reason::Left));
        assert_eq!(of("left", Some("expired")), EventKind::Left(Reason::Expired));
        assert_eq!(of("left", Some("kicked")), EventKind::Left(Reason::Kicked));
    }

    #[test]
    fn a_kind_or_reason_that_nobody_knows_is_a_bug_and_no_leave() {
        for (kind, reason) in [
            ("moved", None),
            ("", None),
            ("left", None),
            ("left", Some("bored")),
            ("joined", Some("left")),
            ("moved", Some("left")),
        ] {
            assert!(matches!(event_kind(kind, reason), Err(StoreError::Bug(_))), "{kind} {reason:?}");
        }
    }

    #[test]
    fn an_id_that_nobody_can_have_is_a_bug() {
        assert!(matches!(room("a b"), Err(StoreError::Bug(_))));
        assert!(matches!(user(""), Err(StoreError::Bug(_))));
        assert!(matches!(epoch("?"), Err(StoreError::Bug(_))));
    }
}
