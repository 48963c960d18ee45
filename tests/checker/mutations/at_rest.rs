//! What the database held at rest.

use super::{choose, mutations};
use crate::recording::Membership;

mutations! {
    /// Of two tabs, one whose last request was lost may be there or not.
    a_membership_that_is_dropped: |history, one, _| {
        let alone = |n: &usize| {
            let Membership { room, user, .. } = &history.presence[*n];
            history.presence.iter().filter(|row| row.room == *room && row.user == *user).count() == 1
        };
        let n = choose(one, (0..history.presence.len()).filter(alone))?;
        Some(format!("{:?}", history.presence.remove(n)))
    };

    a_membership_that_is_forged: |history, one, _| {
        let row = history.presence[one.index(history.presence.len())].clone();
        let row = Membership { session: "a session of mallory".to_owned(), ..row };
        history.presence.push(row.clone());
        Some(format!("{row:?}"))
    };

    a_member_left_out_of_a_roster_at_rest: |history, one, other| {
        let some = |n: &usize| !history.rosters[*n].members.is_empty();
        let n = choose(one, (0..history.rosters.len()).filter(some))?;
        let members = &mut history.rosters[n].members;
        members.remove(other.index(members.len()));
        Some(format!("{:?}", history.rosters[n]))
    };

    a_member_forged_into_a_roster_at_rest: |history, one, _| {
        let n = one.index(history.rosters.len());
        history.rosters[n].members.push("mallory".to_owned());
        Some(format!("{:?}", history.rosters[n]))
    };

    a_roster_at_rest_at_another_version: |history, one, _| {
        let n = one.index(history.rosters.len());
        history.rosters[n].cursor.version += 1;
        Some(format!("{:?}", history.rosters[n]))
    };

    a_room_that_is_not_there_at_rest: |history, one, _| {
        let n = one.index(history.rosters.len());
        Some(format!("{:?}", history.rosters.remove(n)))
    };
}
