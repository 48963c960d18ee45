//! One change of a room, as the log holds it, and several changes coalesced into one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::id::UserId;
use super::member::Member;

/// Why a member left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Their last session left.
    Left,
    /// The lease of their last session ran out.
    Expired,
    /// Somebody with the right to do so removed them.
    Kicked,
}

/// What happened to a member.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Became a member.
    Joined(Member),
    /// Profile, status or state changed.
    Updated(Member),
    /// Is no longer a member.
    Left(Reason),
}

/// One entry of a room's log.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Position in the log: one more than the event before it.
    pub version: i64,
    /// The user that changed.
    pub user: UserId,
    /// What happened.
    pub change: Change,
}

/// A member who left, in a `diff`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Departure {
    /// The user's id.
    #[schema(value_type = String, example = "ann")]
    pub id: UserId,
    /// Why.
    pub reason: Reason,
}

/// All changes between two versions, coalesced: members that joined, changed or left. A join and its leave
/// cancel out; a leave and a new join are an update.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// Became members.
    pub joined: Vec<Member>,
    /// Were members before, and changed.
    pub updated: Vec<Member>,
    /// Are no longer members.
    pub left: Vec<Departure>,
}

impl Diff {
    /// Coalesces consecutive events. Only the first and the last change of a user matter: the first tells
    /// whether they were there before, the last whether they are there after.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut spans: BTreeMap<&UserId, (bool, &Change)> = BTreeMap::new();
        for event in events {
            let absent_before = matches!(event.change, Change::Joined(_));
            spans.entry(&event.user).or_insert((absent_before, &event.change)).1 = &event.change;
        }
        let mut diff = Self::default();
        for (user, (absent_before, last)) in spans {
            match (last, absent_before) {
                (Change::Joined(member) | Change::Updated(member), true) => {
                    diff.joined.push(member.clone());
                }
                (Change::Joined(member) | Change::Updated(member), false) => {
                    diff.updated.push(member.clone());
                }
                (Change::Left(_), true) => {}
                (Change::Left(reason), false) => {
                    let departure = Departure { id: user.clone(), reason: *reason };
                    diff.left.push(departure);
                }
            }
        }
        diff
    }

    /// Whether the diff is a no-op.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.updated.is_empty() && self.left.is_empty()
    }
}
