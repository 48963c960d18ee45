//! The fold from log to notices, checked against a model of presence.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn at(ms: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms)
}

/// The kind of a logged event.
#[derive(Clone, Copy, PartialEq, Debug)]
enum What {
    Join,
    Update,
    Leave,
}

type Logged = (u8, What, i64);

/// A room whose log is complete, with the events that one poll finds.
fn due(log: &[Logged], position: &RoomPosition, window: usize) -> Due {
    let from = usize::try_from(position.version).unwrap();
    let entry = |n: usize| {
        let (user, what, ms) = log[n];
        let next = (n + 1..log.len()).find(|later| log[*later].0 == user);
        let later = |n: usize| Later { version: i64::try_from(n).unwrap() + 1, at: at(log[n].2) };
        let change = match what {
            What::Join => LoggedChange::Joined(None),
            What::Update => LoggedChange::Updated(None),
            What::Leave => LoggedChange::Left(Reason::Left),
        };
        Entry {
            version: i64::try_from(n).unwrap() + 1,
            user: UserId::parse(&format!("u{user}")).unwrap(),
            change,
            at: at(ms),
            next: next.map(later),
            following_at: (n + 1 < log.len()).then(|| at(log[n + 1].2)),
        }
    };
    Due {
        room: RoomId::parse("room").unwrap(),
        epoch: Epoch::parse("a").unwrap(),
        position: position.clone(),
        head: i64::try_from(log.len()).unwrap(),
        entries: (from..log.len().min(from + window)).map(entry).collect(),
        count_after_gap: None,
    }
}

fn start() -> RoomPosition {
    RoomPosition { version: 0, count: 0, returns: Vec::new(), occupies: None }
}

/// All notices in the end, from polls of a few events each.
fn tell(log: &[Logged], delay_ms: u64, window: usize) -> Vec<Notice> {
    let (mut position, mut told) = (start(), Vec::new());
    while usize::try_from(position.version).unwrap() < log.len() {
        let subscription =
            Subscription { topics: Topic::ALL.to_vec(), delay: Duration::from_millis(delay_ms) };
        let mut batch = Batch::new(subscription, at(1_000_000_000));
        let advance = batch.add(&due(log, &position, window));
        assert!(advance.position.version > position.version && advance.held_until.is_none());
        position = advance.position;
        told.extend(batch.notices);
    }
    assert!(position.returns.is_empty() && position.occupies.is_none(), "{position:?}");
    told
}

fn topics(told: &[Notice]) -> Vec<&str> {
    told.iter().map(|notice| notice.kind.as_str()).collect()
}

/// The members by the log alone.
fn present(log: &[Logged]) -> BTreeSet<u8> {
    let mut there = BTreeSet::new();
    for (user, what, _) in log {
        match what {
            What::Join => drop(there.insert(*user)),
            What::Leave => drop(there.remove(user)),
            What::Update => {}
        }
    }
    there
}

/// Only lawful logs: an absent user joins, a present one leaves or changes.
fn logs() -> impl Strategy<Value = Vec<Logged>> {
    proptest::collection::vec((0_u8..4, any::<bool>(), 0_i64..2000), 1..60).prop_map(|steps| {
        let (mut there, mut now) = (BTreeSet::new(), 0);
        let step = |(user, stays, wait): (u8, bool, i64)| {
            now += wait;
            let what = match (there.contains(&user), stays) {
                (false, _) => What::Join,
                (true, true) => What::Update,
                (true, false) => What::Leave,
            };
            match what {
                What::Join => drop(there.insert(user)),
                What::Leave => drop(there.remove(&user)),
                What::Update => {}
            }
            (user, what, now)
        };
        steps.into_iter().map(step).collect()
    })
}

proptest! {
    #[test]
    fn without_a_delay_all_of_the_log_is_told(log in logs(), window in 1_usize..9) {
        let told = tell(&log, 0, window);
        let members: Vec<&Notice> = told.iter().filter(|notice| notice.user.is_some()).collect();
        prop_assert_eq!(members.len(), log.len());
        let mut there = BTreeSet::new();
        for (notice, (user, what, _)) in members.iter().zip(&log) {
            match what {
                What::Join => drop(there.insert(*user)),
                What::Leave => drop(there.remove(user)),
                What::Update => {}
            }
            prop_assert_eq!(notice.count, Some(i32::try_from(there.len()).unwrap()));
        }
    }

    #[test]
    fn with_a_delay_it_is_a_shorter_history_of_the_same_room(
        log in logs(), window in 1_usize..9, delay in 1_u64..5000
    ) {
        let told = tell(&log, delay, window);
        let whole = tell(&log, delay, log.len());
        prop_assert_eq!(topics(&told), topics(&whole), "however it is cut");
        let (mut there, mut occupied, mut version) = (BTreeMap::new(), false, 0);
        for notice in &told {
            let this: Cursor = notice.cursor.parse().unwrap();
            prop_assert!(this.version >= version);
            version = this.version;
            match notice.kind.as_str() {
                "member.joined" => prop_assert!(there.insert(notice.user.clone().unwrap(), notice.at).is_none()),
                "member.left" => prop_assert!(there.remove(notice.user.as_ref().unwrap()).is_some()),
                "member.updated" => prop_assert!(there.contains_key(notice.user.as_ref().unwrap())),
                "room.occupied" => { prop_assert!(!occupied); occupied = true; }
                _ => { prop_assert!(occupied && there.is_empty()); occupied = false; }
            }
            prop_assert_eq!(notice.count, Some(i32::try_from(there.len()).unwrap()));
        }
        prop_assert_eq!(occupied, !there.is_empty());
        let names: BTreeSet<String> = there.keys().map(ToString::to_string).collect();
        prop_assert_eq!(names, present(&log).iter().map(|user| format!("u{user}")).collect::<BTreeSet<_>>());
        // A leave whose user came back in time gets no notice.
        for (n, (user, what, left_at)) in log.iter().enumerate() {
            let back = log[n + 1..].iter().find(|(later, ..)| later == user);
            if let (What::Leave, Some((.., back_at))) = (what, back) {
                let gone = told.iter().any(|notice| {
                    notice.kind == NoticeKind::Topic(Topic::MemberLeft) && notice.cursor == format!("a.{}", n + 1)
                });
                prop_assert_eq!(gone, u64::try_from(back_at - left_at).unwrap() > delay);
            }
        }
    }
}

#[test]
fn a_leave_waits_for_its_delay_and_holds_back_what_comes_after_it() {
    let log = [(1, What::Join, 0), (2, What::Join, 0), (1, What::Leave, 1000), (2, What::Update, 1100)];
    let look = |now: i64| {
        let subscription = Subscription { topics: Topic::ALL.to_vec(), delay: Duration::from_secs(10) };
        let mut batch = Batch::new(subscription, at(now));
        let advance = batch.add(&due(&log, &start(), 500));
        (advance.position.version, advance.held_until, batch.notices.len())
    };
    assert_eq!(look(11_499), (2, Some(at(11_500)), 3));
    assert_eq!(look(11_500), (4, None, 5));
    assert_eq!(look(-3_600_000), (4, None, 5), "the clock went back: it does not wait for it");
}

#[test]
fn a_batch_ends_where_it_is_full_and_goes_on_from_there() {
    let log: Vec<Logged> =
        (0..1200).map(|n| (1, if n % 2 == 0 { What::Join } else { What::Leave }, n)).collect();
    let (mut position, mut sizes) = (start(), Vec::new());
    while position.version < 1200 {
        let subscription = Subscription { topics: Topic::ALL.to_vec(), delay: Duration::ZERO };
        let mut batch = Batch::new(subscription, at(0));
        position = batch.add(&due(&log, &position, EVENTS_MAX)).position;
        sizes.push(batch.notices.len());
    }
    assert_eq!(sizes, [500, 500, 500, 500, 400]);
    let wide = Arc::<RawValue>::from(RawValue::from_string(format!("\"{}\"", "x".repeat(2000))).unwrap());
    let mut due = due(&log[..1], &start(), 1);
    due.entries = (1..=500)
        .map(|version| Entry {
            version,
            change: LoggedChange::Updated(Some(wide.clone())),
            ..due.entries[0].clone()
        })
        .collect();
    let mut batch = Batch::new(Subscription { topics: Topic::ALL.to_vec(), delay: Duration::ZERO }, at(0));
    batch.add(&due);
    let bytes = serde_json::to_vec(&batch.notices).unwrap().len();
    assert!((BYTES_MAX - 4096..BYTES_MAX + 4096).contains(&bytes), "{bytes}");
}

#[test]
fn what_is_missing_is_announced_once_and_the_count_goes_on_from_what_is() {
    let log: Vec<Logged> = (0..6).map(|n| (n, What::Join, 0)).collect();
    let mut due = due(&log, &start(), 6);
    due.entries.drain(..2);
    due.entries.remove(2); // a second gap, later on
    due.count_after_gap = Some(2);
    let mut batch =
        Batch::new(Subscription { topics: vec![Topic::MemberJoined], delay: Duration::ZERO }, at(7));
    let advance = batch.add(&due);
    assert_eq!(advance.position.version, 4, "up to the next gap");
    assert_eq!(topics(&batch.notices), ["log.gap", "member.joined", "member.joined"]);
    let gap = &batch.notices[0];
    assert_eq!((gap.id.as_str(), gap.missing, gap.at), ("room:a.2:gap", Some(2), at(7)));
    assert_eq!(batch.notices[1].count, Some(3));
    due.entries.clear();
    let mut batch = Batch::new(Subscription { topics: vec![], delay: Duration::ZERO }, at(7));
    assert_eq!(batch.add(&due).position.version, 6, "nothing is left at all");
    assert_eq!(batch.notices[0].missing, Some(6));
}
