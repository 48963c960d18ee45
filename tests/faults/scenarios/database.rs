//! Postgres restarted, killed, hung, slow, locked.

use std::time::Duration;

use headcount::store::embedded::Durability;
use sqlx::{Connection, Executor};

use super::s;
use crate::proxy::Mode;
use crate::recording::{Kind, Outcome};
use crate::run::{Plan, Run, all, only_in_all, scenario};
use crate::summary::millis;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restarted() {
    let mut plan = Plan::new("postgres_restarted");
    plan.durability = Durability::Full;
    scenario(plan, async |run: &mut Run| {
        run.warm().await;
        run.begin("restart");
        run.database.stop().await;
        run.database.start_again().await;
        run.heal("restart");
        run.recover().await;
    })
    .await;
}

/// What was acked is still there, and nobody expires for what nobody could renew.
#[tokio::test(flavor = "multi_thread")]
async fn postmaster_killed_and_down_for_longer_than_a_lease() {
    let mut plan = Plan::new("postmaster_killed");
    plan.durability = Durability::Full;
    scenario(plan, async |run: &mut Run| {
        run.warm().await;
        run.begin("kill -9");
        run.database.kill().await;
        let from = run.recorder.now();
        run.load(s(5)).await;
        run.answers_were_quick(from, run.recorder.now() - s(2));
        run.database.start_again().await;
        run.heal("kill -9");
        run.recover().await;
        nobody_who_beats_expired(run).await;
    })
    .await;
}

/// Stayers beat whenever anybody listens: an outage of everybody's heartbeats must not be held against them.
async fn nobody_who_beats_expired(run: &Run) {
    let expired = "select count(*) from headcount.events where reason = 'expired' and user_id like 's%'";
    assert_eq!(run.database.number(expired).await, 0, "P7, outage rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_killed() {
    if !only_in_all("backend_killed") {
        return;
    }
    let mut plan = Plan::new("backend_killed");
    plan.durability = Durability::Full;
    scenario(plan, async |run: &mut Run| {
        run.warm().await;
        run.begin("kill -9");
        run.database.kill_backend("headcount").await; // Postgres ends all others too, and recovers
        run.database.until_serving().await;
        run.heal("kill -9");
        run.recover().await;
        nobody_who_beats_expired(run).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_hung() {
    let time = if all() { s(20) } else { s(8) };
    let mut plan = Plan::new("postgres_hung");
    plan.linger = time + s(5); // what was sent to it before is done after
    scenario(plan, async move |run: &mut Run| {
        run.warm().await;
        run.begin("hung");
        let hang = run.database.hang();
        let from = run.recorder.now();
        run.load(time).await;
        run.answers_were_quick(from, run.recorder.now() - s(2));
        let rosters = stale_rosters(run, from);
        assert!(rosters > 0, "rosters of watched rooms are served while nobody can be asked");
        run.measure("stale_rosters_served", rosters);
        drop(hang);
        run.heal("hung");
        run.recover().await;
        nobody_who_beats_expired(run).await;
    })
    .await;
}

fn stale_rosters(run: &Run, from: Duration) -> u64 {
    let answers = run.recorder.answers(from, run.recorder.now());
    let stale =
        answers.iter().filter(|(_, outcome, _)| matches!(outcome, Outcome::Roster { stale: true, .. }));
    u64::try_from(stale.count()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn database_link_slow() {
    let mut plan = Plan::new("link_slow");
    plan.linger = s(10);
    scenario(plan, async |run: &mut Run| {
        run.warm().await;
        for (name, delay) in [("200 ms", Duration::from_millis(200)), ("5 s", s(5))] {
            run.begin(name);
            run.links.iter().chain(&run.ears).for_each(|link| link.set(Mode::Delay(delay)));
            let from = run.recorder.now();
            run.load(s(5)).await;
            if name == "5 s" {
                run.answers_were_quick(from + s(1), run.recorder.now() - s(2));
            }
            run.links.iter().chain(&run.ears).for_each(|link| link.set(Mode::Pass));
            run.heal(name);
            run.load(s(4)).await;
        }
        nobody_who_beats_expired(run).await;
    })
    .await;
}

/// A person with psql holds one room: that room is refused, the others do not notice.
#[tokio::test(flavor = "multi_thread")]
async fn room_held_by_somebody() {
    scenario(Plan::new("room_held"), async |run: &mut Run| {
        run.warm().await;
        run.begin("held");
        let mut person = run.database.connect().await;
        let mut transaction = person.begin().await.unwrap();
        transaction.execute("select from headcount.rooms where room_id = 'room0' for update").await.unwrap();
        let from = run.recorder.now();
        run.load(s(5)).await;
        let answers = run.recorder.answers(from, run.recorder.now());
        transaction.rollback().await.unwrap();
        run.heal("held");
        let writes = |held: bool| {
            let kind = |kind| !matches!(kind, Kind::Roster | Kind::Heartbeat);
            answers.iter().filter(move |(asked, ..)| kind(asked.kind) && (asked.room == "room0") == held)
        };
        let busy =
            |outcome: &Outcome| matches!(outcome, Outcome::Problem { code, .. } if code == "room_busy");
        for (asked, outcome, _) in writes(true) {
            assert!(matches!(outcome, Outcome::Problem { status: 503, .. }), "{asked:?} {outcome:?}");
        }
        // Where two replicas queue for the same user and the same room, the second may run out of time.
        let refused = writes(true).filter(|(_, outcome, _)| busy(outcome)).count();
        assert!(
            refused * 10 >= writes(true).count() * 8,
            "{refused} of {} say room_busy",
            writes(true).count()
        );
        assert!(refused > 0);
        let mut others: Vec<Duration> =
            writes(false).filter(|(_, o, _)| !busy(o)).map(|(.., took)| *took).collect();
        others.sort_unstable();
        let p99 = others[others.len() * 99 / 100];
        run.measure("p99_of_other_rooms_ms", millis(p99));
        run.measure("refused_in_the_held_room", u64::try_from(writes(true).count()).unwrap());
        assert!(p99 < s(1), "other rooms go on: p99 {p99:?} of {}", others.len());
        run.recover().await;
    })
    .await;
}
