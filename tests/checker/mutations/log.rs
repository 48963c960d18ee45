//! Entries of the log.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{choose, mutations, requests};
use crate::recording::{EventKind, Kind, LoggedEvent, Outcome, Reason, Recording};

/// More than the clocks of a clean recording may be apart.
const APART_US: i64 = 41_000;

const MOVED_US: i64 = 3_000_000;

fn neighbour(recording: &Recording, event: &LoggedEvent) -> Option<usize> {
    let next = |other: &LoggedEvent| other.room == event.room && other.version == event.version + 1;
    recording.log.iter().position(next)
}

/// Puts an event before this one, and moves what comes after it, in the log and at rest.
fn insert(recording: &mut Recording, before: usize, event: LoggedEvent) {
    let (room, version) = (event.room.clone(), event.version);
    for later in recording.log.iter_mut().filter(|e| e.room == room && e.version >= version) {
        later.version += 1;
    }
    recording.log.insert(before, event);
    recording.rosters.iter_mut().filter(|r| r.room == room).for_each(|r| r.cursor.version += 1);
}

fn time(recording: &Recording, event: &LoggedEvent) -> Duration {
    let offset = recording.settings.clock_offset_us.expect("clean recordings have a clock");
    Duration::from_micros(u64::try_from(event.at_us - offset).unwrap())
}

/// Whether the user asked to leave, in time for this event.
fn may_have_left(recording: &Recording, event: &LoggedEvent) -> bool {
    let leaves = requests(recording, |asked| {
        let leave = matches!(asked.kind, Kind::Leave | Kind::LeaveGrace);
        leave && asked.user == event.user && asked.room == event.room
    });
    let at = time(recording, event);
    leaves.iter().any(|leave| {
        leave.from <= at + recording.settings.clock_error && leave.to + Duration::from_secs(3) >= at
    })
}

/// Whether every session of the user said lately, and was told, that it lives.
fn all_spoke_before(recording: &Recording, event: &LoggedEvent) -> bool {
    let at = time(recording, event);
    let all = requests(recording, |asked| asked.user == event.user && !asked.session.is_empty());
    let sessions: BTreeSet<&str> = all.iter().map(|request| request.asked.session.as_str()).collect();
    sessions.into_iter().all(|session| {
        all.iter().any(|request| {
            let lately = request.to + recording.settings.clock_error < at
                && request.from + recording.settings.lease > at + recording.settings.clock_error;
            lately && request.asked.session == session && *request.outcome == Outcome::Alive
        })
    })
}

mutations! {
    an_event_that_is_dropped: |recording, one, _| {
        let n = one.index(recording.log.len());
        Some(format!("{:?}", recording.log.remove(n)))
    };

    /// The numbers are made whole again, also at rest.
    an_event_that_is_dropped_and_papered_over: |recording, one, _| {
        let n = one.index(recording.log.len());
        let event = recording.log.remove(n);
        for later in recording.log.iter_mut().filter(|e| e.room == event.room && e.version > event.version) {
            later.version -= 1;
        }
        recording.rosters.iter_mut().filter(|r| r.room == event.room).for_each(|r| r.cursor.version -= 1);
        Some(format!("{event:?}"))
    };

    an_event_that_is_doubled: |recording, one, _| {
        let event = recording.log[one.index(recording.log.len())].clone();
        recording.log.push(event.clone());
        Some(format!("{event:?}"))
    };

    two_neighbours_in_the_log_that_are_swapped: |recording, one, _| {
        let apart = |n: &usize| {
            let event = &recording.log[*n];
            let next = neighbour(recording, event).map(|next| &recording.log[next]);
            next.is_some_and(|next| next.at_us - event.at_us > APART_US)
        };
        let n = choose(one, (0..recording.log.len()).filter(apart))?;
        let next = neighbour(recording, &recording.log[n]).expect("it was chosen by having one");
        recording.log[n].version += 1;
        recording.log[next].version -= 1;
        Some(format!("{:?} and {:?}", recording.log[n], recording.log[next]))
    };

    an_event_that_is_back_dated: |recording, one, _| {
        let n = one.index(recording.log.len());
        recording.log[n].at_us -= MOVED_US;
        Some(format!("{:?}", recording.log[n]))
    };

    an_event_that_is_post_dated: |recording, one, _| {
        let n = one.index(recording.log.len());
        recording.log[n].at_us += MOVED_US;
        Some(format!("{:?}", recording.log[n]))
    };

    an_event_that_is_forged: |recording, one, other| {
        let n = one.index(recording.log.len());
        let kinds = [(EventKind::Joined, None), (EventKind::Updated, None), (EventKind::Left, Some(Reason::Left))];
        let (kind, reason) = kinds[other.index(3)];
        let state = recording.log[n].state.clone();
        let event = LoggedEvent { kind, reason, state, ..recording.log[n].clone() };
        insert(recording, n, event.clone());
        Some(format!("{event:?}"))
    };

    /// A whole visit that nobody paid, with every number and the law of the log kept.
    a_visit_that_is_forged: |recording, one, _| {
        let n = one.index(recording.log.len());
        let event = |kind, reason| LoggedEvent { kind, reason, user: "mallory".to_owned(), ..recording.log[n].clone() };
        let (joined, left) = (event(EventKind::Joined, None), event(EventKind::Left, Some(Reason::Left)));
        insert(recording, n, left);
        insert(recording, n, joined.clone());
        Some(format!("{joined:?}"))
    };

    a_reason_that_is_forged: |recording, one, other| {
        let n = choose(one, (0..recording.log.len()).filter(|n| recording.log[*n].kind == EventKind::Left))?;
        let reasons = [Reason::Left, Reason::Expired, Reason::Kicked];
        let others: Vec<Reason> = reasons.into_iter().filter(|r| Some(*r) != recording.log[n].reason).collect();
        let reason = others[other.index(2)];
        if reason == Reason::Expired && !all_spoke_before(recording, &recording.log[n]) {
            return None; // a silent tab of the same user may indeed have expired then
        }
        if reason == Reason::Left && may_have_left(recording, &recording.log[n]) {
            return None; // so may a tab whose leave was lost, or waits
        }
        recording.log[n].reason = Some(reason);
        Some(format!("{:?}", recording.log[n]))
    };

    a_kind_that_is_forged: |recording, one, other| {
        let n = one.index(recording.log.len());
        let kinds = [EventKind::Joined, EventKind::Updated, EventKind::Left];
        let others: Vec<EventKind> = kinds.into_iter().filter(|kind| *kind != recording.log[n].kind).collect();
        recording.log[n].kind = others[other.index(2)];
        recording.log[n].reason = (recording.log[n].kind == EventKind::Left).then_some(Reason::Left);
        Some(format!("{:?}", recording.log[n]))
    };

    an_event_about_somebody_else: |recording, one, other| {
        let n = one.index(recording.log.len());
        let mut others: Vec<String> = (0..6).map(|n| format!("user{n}")).collect();
        others.retain(|user| *user != recording.log[n].user);
        recording.log[n].user.clone_from(&others[other.index(5)]);
        Some(format!("{:?}", recording.log[n]))
    };

    a_state_that_nobody_set: |recording, one, _| {
        let n = choose(one, (0..recording.log.len()).filter(|n| recording.log[*n].state.is_some()))?;
        recording.log[n].state = Some("{\"n\":99}".to_owned());
        Some(format!("{:?}", recording.log[n]))
    };
}
