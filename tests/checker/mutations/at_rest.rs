//! What the database held at rest.

use super::{choose, mutations};
use crate::recording::Membership;

mutations! {
    /// Of two tabs, one whose last request was lost may be there or not.
    a_membership_that_is_dropped: |recording, one, _| {
        let alone = |n: &usize| {
            let Membership { room, user, .. } = &recording.presence[*n];
            recording.presence.iter().filter(|row| row.room == *room && row.user == *user).count() == 1
        };
        let n = choose(one, (0..recording.presence.len()).filter(alone))?;
        Some(format!("{:?}", recording.presence.remove(n)))
    };

    a_membership_that_is_forged: |recording, one, _| {
        let row = recording.presence[one.index(recording.presence.len())].clone();
        let row = Membership { session: "a session of mallory".to_owned(), ..row };
        recording.presence.push(row.clone());
        Some(format!("{row:?}"))
    };

    a_member_left_out_of_a_roster_at_rest: |recording, one, other| {
        let some = |n: &usize| !recording.rosters[*n].members.is_empty();
        let n = choose(one, (0..recording.rosters.len()).filter(some))?;
        let members = &mut recording.rosters[n].members;
        members.remove(other.index(members.len()));
        Some(format!("{:?}", recording.rosters[n]))
    };

    a_member_forged_into_a_roster_at_rest: |recording, one, _| {
        let n = one.index(recording.rosters.len());
        recording.rosters[n].members.push("mallory".to_owned());
        Some(format!("{:?}", recording.rosters[n]))
    };

    a_roster_at_rest_at_another_version: |recording, one, _| {
        let n = one.index(recording.rosters.len());
        recording.rosters[n].cursor.version += 1;
        Some(format!("{:?}", recording.rosters[n]))
    };

    a_room_that_is_not_there_at_rest: |recording, one, _| {
        let n = one.index(recording.rosters.len());
        Some(format!("{:?}", recording.rosters.remove(n)))
    };
}
