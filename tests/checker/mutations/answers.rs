//! Answers to requests.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{answers, choices, choose, config, mutations, outcome, requests};
use crate::checker::check;
use crate::recording::{Asked, Cursor, EventKind, Kind, Outcome, Recording, What};

/// The question to an answer, and when it was asked.
fn question(recording: &Recording, n: usize) -> (Duration, &Asked) {
    let What::Answered { op, .. } = recording.records[n].what else {
        unreachable!("it was chosen among answers")
    };
    let asked = recording.records.iter().find_map(|record| match &record.what {
        What::Asked(asked) if asked.op == op => Some((record.at, asked)),
        _ => None,
    });
    asked.expect("every answer has a question")
}

fn cursor(outcome: &mut Outcome) -> &mut Cursor {
    match outcome {
        Outcome::Ok { cursor, .. } | Outcome::Roster { cursor, .. } => cursor,
        _ => unreachable!("it was chosen among answers with a cursor"),
    }
}

fn has_cursor(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Ok { .. } | Outcome::Roster { .. })
}

fn created(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Ok { created: true, .. })
}

/// How many events of this user and kind the log has while the request was under way, give or take the clocks.
fn events_of(recording: &Recording, n: usize, kind: EventKind) -> usize {
    let (from, asked) = question(recording, n);
    let offset = recording.settings.clock_offset_us.expect("clean recordings have a clock");
    let (error, to) = (recording.settings.clock_error, recording.records[n].at);
    let under_way = |at_us: i64| {
        let at = Duration::from_micros(u64::try_from(at_us - offset).unwrap());
        at + error >= from && at <= to + error
    };
    let same = |room: &str, user: &str| room == asked.room && user == asked.user;
    recording.log.iter().filter(|e| e.kind == kind && same(&e.room, &e.user) && under_way(e.at_us)).count()
}

/// Whether no other request of these kinds about the same user in the same room can have done it: a leave with grace
/// waits, and one that was lost lingers.
fn alone(recording: &Recording, n: usize, kinds: &[Kind]) -> bool {
    let (from, asked) = question(recording, n);
    let others = requests(recording, |other| {
        other.room == asked.room
            && other.user == asked.user
            && other.op != asked.op
            && kinds.contains(&other.kind)
    });
    let (before, to) = (from.saturating_sub(Duration::from_secs(3)), recording.records[n].at);
    !others.iter().any(|other| other.from <= to + recording.settings.clock_error && other.to >= before)
}

/// Heartbeats of a session: when asked, when answered, and how.
fn beats<'a>(
    recording: &'a Recording,
    session: &str,
) -> impl Iterator<Item = (Duration, Duration, Outcome)> + 'a {
    let beats = requests(recording, |asked| asked.session == session && asked.kind == Kind::Heartbeat);
    beats.into_iter().map(|beat| (beat.from, beat.to, beat.outcome.clone()))
}

/// Whether the session may have joined anything between these.
fn joins(recording: &Recording, session: &str, from: Duration, to: Duration) -> bool {
    let linger = recording.settings.linger;
    let joins = requests(recording, |asked| asked.session == session && asked.kind == Kind::Join);
    joins.iter().any(|join| join.from <= to && join.from + linger >= from)
}

fn of_kind<'a>(recording: &'a Recording, kind: Kind, ok: bool) -> impl Iterator<Item = usize> + 'a {
    let fits = move |n: &usize| question(recording, *n).1.kind == kind;
    answers(recording, move |outcome| !ok || matches!(outcome, Outcome::Ok { .. })).filter(fits)
}

proptest! {
    #![proptest_config(config())]

    /// By nature: nobody can blame a service for what its client did not hear. It must not be blamed.
    #[test]
    fn an_answer_that_is_dropped_alarms_nobody((mut recording, one, _) in choices()) {
        let n = choose(one, answers(&recording, |_| true)).unwrap();
        let record = recording.records.remove(n);
        let violations = check(&recording).violations;
        prop_assert!(violations.is_empty(), "{:?}: {:?}", record, violations);
    }
}

mutations! {
    an_answer_that_is_doubled: |recording, one, _| {
        let n = choose(one, answers(recording, |_| true))?;
        let record = recording.records[n].clone();
        recording.records.insert(n, record.clone());
        Some(format!("{record:?}"))
    };

    /// Of two that followed each other, in one room, with something in between.
    two_answers_that_are_swapped: |recording, one, other| {
        let mut rooms: BTreeMap<String, Vec<(usize, Duration, u64)>> = BTreeMap::new();
        for n in answers(recording, has_cursor) {
            let (from, asked) = question(recording, n);
            let What::Answered { outcome: Outcome::Ok { cursor, .. } | Outcome::Roster { cursor, .. }, .. } =
                &recording.records[n].what
            else {
                continue;
            };
            rooms.entry(asked.room.clone()).or_default().push((n, from, cursor.version));
        }
        let room = rooms.into_values().nth(one.index(3))?;
        let (early, _, old) = room[other.index(room.len() / 2)];
        let ended = recording.records[early].at;
        let later = room.iter().find(|(_, from, version)| *from > ended && *version > old);
        let (late, _, _) = *later.expect("rooms stay busy to the end");
        let (a, b) = (outcome(recording, early).clone(), outcome(recording, late).clone());
        *cursor(outcome(recording, early)) = cursor(&mut b.clone()).clone();
        *cursor(outcome(recording, late)) = cursor(&mut a.clone()).clone();
        Some(format!("{a:?} and {b:?}"))
    };

    an_answer_before_its_question: |recording, one, _| {
        let n = choose(one, answers(recording, |_| true))?;
        let (from, _) = question(recording, n);
        let mut record = recording.records.remove(n);
        record.at = from.saturating_sub(Duration::from_millis(1));
        let before = recording.records.partition_point(|other| other.at <= record.at);
        recording.records.insert(before.saturating_sub(1), record.clone());
        Some(format!("{record:?}"))
    };

    an_answer_from_the_future: |recording, one, _| {
        let n = choose(one, answers(recording, has_cursor))?;
        cursor(outcome(recording, n)).version += 1000;
        Some(format!("{:?}", recording.records[n]))
    };

    /// At the beginning nobody has seen anything yet.
    an_answer_from_the_past: |recording, one, _| {
        let n = choose(one, answers(recording, has_cursor).filter(|n| recording.records[*n].at > Duration::from_secs(4)))?;
        let cursor = cursor(outcome(recording, n));
        cursor.version = cursor.version.saturating_sub(20);
        Some(format!("{:?}", recording.records[n]))
    };

    an_answer_of_an_older_epoch: |recording, one, _| {
        let late = |n: &usize| recording.records[*n].at > Duration::from_secs(4);
        let n = choose(one, answers(recording, has_cursor).filter(late))?;
        cursor(outcome(recording, n)).epoch = "00".to_owned();
        Some(format!("{:?}", recording.records[n]))
    };

    a_join_that_made_no_member_and_says_so: |recording, one, _| {
        let none = |n: &usize| events_of(recording, *n, EventKind::Joined) == 0;
        let n = choose(one, of_kind(recording, Kind::Join, true).filter(none))?;
        if let Outcome::Ok { created, .. } = outcome(recording, n) {
            *created = true;
        }
        Some(format!("{:?}", recording.records[n]))
    };

    a_join_that_made_a_member_and_denies_it: |recording, one, _| {
        let n = choose(one, answers(recording, created).filter(|n| alone(recording, *n, &[Kind::Join])))?;
        if let Outcome::Ok { created, .. } = outcome(recording, n) {
            *created = false;
        }
        Some(format!("{:?}", recording.records[n]))
    };

    /// Refused, says the answer, and it was done.
    a_join_that_made_a_member_and_was_refused: |recording, one, _| {
        let n = choose(one, answers(recording, created).filter(|n| alone(recording, *n, &[Kind::Join])))?;
        *outcome(recording, n) = Outcome::Problem { status: 404, code: "room_not_found".to_owned() };
        Some(format!("{:?}", recording.records[n]))
    };

    a_leave_that_ended_a_stay_and_was_refused: |recording, one, _| {
        let ended = |n: &usize| {
            let others = [Kind::Leave, Kind::LeaveGrace, Kind::Kick];
            events_of(recording, *n, EventKind::Left) == 1 && alone(recording, *n, &others)
        };
        let n = choose(one, of_kind(recording, Kind::Leave, true).filter(ended))?;
        *outcome(recording, n) = Outcome::Problem { status: 404, code: "room_not_found".to_owned() };
        Some(format!("{:?}", recording.records[n]))
    };

    somebody_left_out_of_a_roster: |recording, one, other| {
        let lists = |outcome: &Outcome| matches!(outcome, Outcome::Roster { members, .. } if !members.is_empty());
        let n = choose(one, answers(recording, lists))?;
        if let Outcome::Roster { members, .. } = outcome(recording, n) {
            members.remove(other.index(members.len()));
        }
        Some(format!("{:?}", recording.records[n]))
    };

    somebody_forged_into_a_roster: |recording, one, _| {
        let n = choose(one, answers(recording, |outcome| matches!(outcome, Outcome::Roster { .. })))?;
        if let Outcome::Roster { members, .. } = outcome(recording, n) {
            members.push("mallory".to_owned());
        }
        Some(format!("{:?}", recording.records[n]))
    };

    /// Of a session that goes on to live without another join.
    a_heartbeat_that_was_denied: |recording, one, _| {
        let lives_on = |n: &usize| {
            let (from, asked) = question(recording, *n);
            let next = beats(recording, &asked.session).find(|(at, _, outcome)| *at > from && *outcome == Outcome::Alive);
            next.is_some_and(|(_, to, _)| !joins(recording, &asked.session, from, to))
        };
        let n = choose(one, answers(recording, |outcome| *outcome == Outcome::Alive).filter(lives_on))?;
        *outcome(recording, n) = Outcome::Gone;
        Some(format!("{:?}", recording.records[n]))
    };

    /// The second `gone` in a row: the first one proved that the session was no more.
    a_heartbeat_that_revived: |recording, one, _| {
        let again = |n: &usize| {
            let (from, asked) = question(recording, *n);
            let before = beats(recording, &asked.session).filter(|(at, _, outcome)| *at < from && *outcome == Outcome::Gone);
            before.last().is_some_and(|(at, _, _)| !joins(recording, &asked.session, at, recording.records[*n].at))
        };
        let n = choose(one, answers(recording, |outcome| *outcome == Outcome::Gone).filter(again))?;
        *outcome(recording, n) = Outcome::Alive;
        Some(format!("{:?}", recording.records[n]))
    };
}
