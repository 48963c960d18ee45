//! Entries of the log.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{choose, mutations, requests};
use crate::recording::{EventKind, History, Kind, LoggedEvent, Outcome, Reason};

/// More than the clocks of a clean history may be apart.
const APART_US: i64 = 41_000;

const MOVED_US: i64 = 3_000_000;

fn neighbour(history: &History, event: &LoggedEvent) -> Option<usize> {
    let next = |other: &LoggedEvent| other.room == event.room && other.version == event.version + 1;
    history.log.iter().position(next)
}

/// Puts an event before this one, and moves what comes after it, in the log and at rest.
fn insert(history: &mut History, before: usize, event: LoggedEvent) {
    let (room, version) = (event.room.clone(), event.version);
    for later in history.log.iter_mut().filter(|e| e.room == room && e.version >= version) {
        later.version += 1;
    }
    history.log.insert(before, event);
    history.rosters.iter_mut().filter(|r| r.room == room).for_each(|r| r.cursor.version += 1);
}

fn time(history: &History, event: &LoggedEvent) -> Duration {
    let offset = history.settings.clock_offset_us.expect("clean histories have a clock");
    Duration::from_micros(u64::try_from(event.at_us - offset).unwrap())
}

/// Whether the user asked to leave, in time for this event.
fn may_have_left(history: &History, event: &LoggedEvent) -> bool {
    let leaves = requests(history, |asked| {
        let leave = matches!(asked.kind, Kind::Leave | Kind::LeaveGrace);
        leave && asked.user == event.user && asked.room == event.room
    });
    let at = time(history, event);
    leaves.iter().any(|leave| {
        leave.from <= at + history.settings.clock_error && leave.to + Duration::from_secs(3) >= at
    })
}

/// Whether every session of the user said lately, and was told, that it lives.
fn all_spoke_before(history: &History, event: &LoggedEvent) -> bool {
    let at = time(history, event);
    let all = requests(history, |asked| asked.user == event.user && !asked.session.is_empty());
    let sessions: BTreeSet<&str> = all.iter().map(|request| request.asked.session.as_str()).collect();
    sessions.into_iter().all(|session| {
        all.iter().any(|request| {
            let lately = request.to + history.settings.clock_error < at
                && request.from + history.settings.lease > at + history.settings.clock_error;
            lately && request.asked.session == session && *request.outcome == Outcome::Alive
        })
    })
}

mutations! {
    an_event_that_is_dropped: |history, one, _| {
        let n = one.index(history.log.len());
        Some(format!("{:?}", history.log.remove(n)))
    };

    /// The numbers are made whole again, also at rest.
    an_event_that_is_dropped_and_papered_over: |history, one, _| {
        let n = one.index(history.log.len());
        let event = history.log.remove(n);
        for later in history.log.iter_mut().filter(|e| e.room == event.room && e.version > event.version) {
            later.version -= 1;
        }
        history.rosters.iter_mut().filter(|r| r.room == event.room).for_each(|r| r.cursor.version -= 1);
        Some(format!("{event:?}"))
    };

    an_event_that_is_doubled: |history, one, _| {
        let event = history.log[one.index(history.log.len())].clone();
        history.log.push(event.clone());
        Some(format!("{event:?}"))
    };

    two_neighbours_in_the_log_that_are_swapped: |history, one, _| {
        let apart = |n: &usize| {
            let event = &history.log[*n];
            let next = neighbour(history, event).map(|next| &history.log[next]);
            next.is_some_and(|next| next.at_us - event.at_us > APART_US)
        };
        let n = choose(one, (0..history.log.len()).filter(apart))?;
        let next = neighbour(history, &history.log[n]).expect("it was chosen by having one");
        history.log[n].version += 1;
        history.log[next].version -= 1;
        Some(format!("{:?} and {:?}", history.log[n], history.log[next]))
    };

    an_event_that_is_back_dated: |history, one, _| {
        let n = one.index(history.log.len());
        history.log[n].at_us -= MOVED_US;
        Some(format!("{:?}", history.log[n]))
    };

    an_event_that_is_post_dated: |history, one, _| {
        let n = one.index(history.log.len());
        history.log[n].at_us += MOVED_US;
        Some(format!("{:?}", history.log[n]))
    };

    an_event_that_is_forged: |history, one, other| {
        let n = one.index(history.log.len());
        let kinds = [(EventKind::Joined, None), (EventKind::Updated, None), (EventKind::Left, Some(Reason::Left))];
        let (kind, reason) = kinds[other.index(3)];
        let state = history.log[n].state.clone();
        let event = LoggedEvent { kind, reason, state, ..history.log[n].clone() };
        insert(history, n, event.clone());
        Some(format!("{event:?}"))
    };

    /// A whole visit that nobody paid, with every number and the law of the log kept.
    a_visit_that_is_forged: |history, one, _| {
        let n = one.index(history.log.len());
        let event = |kind, reason| LoggedEvent { kind, reason, user: "mallory".to_owned(), ..history.log[n].clone() };
        let (joined, left) = (event(EventKind::Joined, None), event(EventKind::Left, Some(Reason::Left)));
        insert(history, n, left);
        insert(history, n, joined.clone());
        Some(format!("{joined:?}"))
    };

    a_reason_that_is_forged: |history, one, other| {
        let n = choose(one, (0..history.log.len()).filter(|n| history.log[*n].kind == EventKind::Left))?;
        let reasons = [Reason::Left, Reason::Expired, Reason::Kicked];
        let others: Vec<Reason> = reasons.into_iter().filter(|r| Some(*r) != history.log[n].reason).collect();
        let reason = others[other.index(2)];
        if reason == Reason::Expired && !all_spoke_before(history, &history.log[n]) {
            return None; // a silent tab of the same user may indeed have expired then
        }
        if reason == Reason::Left && may_have_left(history, &history.log[n]) {
            return None; // so may a tab whose leave was lost, or waits
        }
        history.log[n].reason = Some(reason);
        Some(format!("{:?}", history.log[n]))
    };

    a_kind_that_is_forged: |history, one, other| {
        let n = one.index(history.log.len());
        let kinds = [EventKind::Joined, EventKind::Updated, EventKind::Left];
        let others: Vec<EventKind> = kinds.into_iter().filter(|kind| *kind != history.log[n].kind).collect();
        history.log[n].kind = others[other.index(2)];
        history.log[n].reason = (history.log[n].kind == EventKind::Left).then_some(Reason::Left);
        Some(format!("{:?}", history.log[n]))
    };

    an_event_about_somebody_else: |history, one, other| {
        let n = one.index(history.log.len());
        let mut others: Vec<String> = (0..6).map(|n| format!("user{n}")).collect();
        others.retain(|user| *user != history.log[n].user);
        history.log[n].user.clone_from(&others[other.index(5)]);
        Some(format!("{:?}", history.log[n]))
    };

    a_state_that_nobody_set: |history, one, _| {
        let n = choose(one, (0..history.log.len()).filter(|n| history.log[*n].state.is_some()))?;
        history.log[n].state = Some("{\"n\":99}".to_owned());
        Some(format!("{:?}", history.log[n]))
    };
}
