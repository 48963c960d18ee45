//! The members of a room at one version: what a replay of its log gives.

use std::collections::BTreeMap;

use super::event::{Change, Event};
use super::id::UserId;
use super::member::Member;

/// Members by user id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roster {
    members: BTreeMap<UserId, Member>,
}

impl Roster {
    /// A roster of these members.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        Self { members: members.into_iter().map(|m| (m.id.clone(), m)).collect() }
    }

    /// Applies the next event of the log.
    pub fn apply(&mut self, event: &Event) {
        match &event.change {
            Change::Joined(member) | Change::Updated(member) => {
                self.members.insert(event.user.clone(), member.clone());
            }
            Change::Left(_) => {
                self.members.remove(&event.user);
            }
        }
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the room is empty.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Members after an id, in order: a page.
    pub fn members_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a Member> {
        let after = after.map(str::to_owned);
        self.members.values().filter(move |m| after.as_deref().is_none_or(|after| m.id.as_str() > after))
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Diff, Reason};
    use super::*;
    use proptest::prelude::*;
    use time::OffsetDateTime;

    fn member(id: u8, state: u8) -> Member {
        Member {
            id: UserId::parse(&format!("u{id}")).unwrap(),
            name: format!("User {id}").into(),
            avatar_url: None,
            status: super::super::member::Status::Online,
            state: serde_json::value::to_raw_value(&state).unwrap().into(),
            sessions: 1,
            joined_at: OffsetDateTime::UNIX_EPOCH,
            invisible: false,
        }
    }

    /// A lawful log: per user (joined updated* left)*, from arbitrary choices.
    fn log(choices: &[(u8, u8, bool)]) -> Vec<Event> {
        let mut here = std::collections::BTreeSet::new();
        let mut version = 0;
        let events = choices.iter().map(|&(user, state, leaves)| {
            version += 1;
            let user = user % 5;
            let change = match (here.contains(&user), leaves) {
                (false, _) => Change::Joined(member(user, state)),
                (true, false) => Change::Updated(member(user, state)),
                (true, true) => Change::Left(Reason::Left),
            };
            if matches!(change, Change::Left(_)) {
                here.remove(&user)
            } else {
                here.insert(user)
            };
            Event { version, user: member(user, 0).id, change }
        });
        events.collect()
    }

    fn apply_diff(roster: &mut Roster, diff: &Diff) {
        for m in &diff.joined {
            assert!(roster.members.insert(m.id.clone(), m.clone()).is_none(), "joined twice");
        }
        for m in &diff.updated {
            assert!(roster.members.insert(m.id.clone(), m.clone()).is_some(), "updated while absent");
        }
        for d in &diff.left {
            assert!(roster.members.remove(&d.id).is_some(), "left while absent");
        }
    }

    proptest! {
        #[test]
        fn a_folded_diff_equals_its_events(choices: Vec<(u8, u8, bool)>, at: prop::sample::Index, to: prop::sample::Index) {
            let events = log(&choices);
            let (a, b) = (at.index(events.len() + 1), to.index(events.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            let mut roster = Roster::default();
            events[..a].iter().for_each(|e| roster.apply(e));
            let mut expected = roster.clone();
            events[a..b].iter().for_each(|e| expected.apply(e));
            apply_diff(&mut roster, &Diff::fold(&events[a..b]));
            prop_assert_eq!(roster, expected);
        }
    }
}
