//! From a join's request to the sockets of all watchers of the room, through Postgres: the watchers are on one
//! replica and the join goes to another, or to the same.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::peers::headcount::{join, leave, watching};
use crate::peers::{actioncable, socketio};
use crate::report::{Bar, Report, percentile};
use crate::request::{Line, post};
use crate::stage::{Setup, Stage, token};
use crate::watchers::{Watchers, mark};

/// Between joins: longer than a small room's frames are apart.
const PAUSE: Duration = Duration::from_millis(40);

pub async fn measure(stage: &Stage, report: &mut Report) {
    for count in [100, 1000, 10_000] {
        let database = stage.database("reach").await;
        let near = database.replica(Setup::default());
        let far = database.replica(Setup::default());
        let mut watchers = Watchers::open(near.address, count, &watching("reach"));
        watchers.pump_for(Duration::from_millis(500), &mut |_, _, _| {});
        let mut lines = [Line::open(near.address), Line::open(far.address)];
        let mut took = [Vec::new(), Vec::new()];
        for number in 0..stage.either(if count > 1000 { 20 } else { 60 }, 5) {
            for (line, took) in lines.iter_mut().zip(&mut took) {
                took.push(there_and_back(&mut watchers, line, number));
            }
        }
        for (place, took) in ["same", "other"].iter().zip(&took) {
            let bar = if count == 1000 { Bar::AtMost(30.0) } else { Bar::None };
            report.value(
                &format!("reach_{count}_watchers_{place}_replica_p50_ms"),
                percentile(took, 0.5),
                bar,
            );
            report.value(
                &format!("reach_{count}_watchers_{place}_replica_p99_ms"),
                percentile(took, 0.99),
                Bar::None,
            );
        }
    }
    if let Err(why) = socketio(stage, report).await {
        report.fail("reach_socketio", &why);
    }
    if let Err(why) = taught(stage, report).await {
        report.fail("reach_actioncable", &why);
    }
}

/// Milliseconds of a join; the user leaves again, unmeasured.
fn there_and_back(watchers: &mut Watchers, line: &mut Line, number: u64) -> f64 {
    let (token, session) = (token(&mark(number)), Uuid::new_v4());
    let millis = until_all_hear(watchers, line, &join("reach", &token, session));
    until_all_hear(watchers, line, &leave("reach", &token, session));
    millis
}

fn until_all_hear(watchers: &mut Watchers, line: &mut Line, request: &[u8]) -> f64 {
    watchers.pump_for(PAUSE, &mut |_, _, _| {});
    watchers.listen_anew();
    let begin = Instant::now();
    line.send(request);
    let all = watchers.all().len() as u64;
    assert!(watchers.until_marks(all, Duration::from_secs(30)), "not every watcher heard");
    let (status, _) = line.receive();
    assert_eq!(status, 200, "a call was refused");
    (watchers.heard_last.unwrap_or(begin) - begin).as_secs_f64() * 1000.0
}

/// The user joins at one Node process, the watchers are on the other.
async fn socketio(stage: &Stage, report: &mut Report) -> Result<(), String> {
    let database = stage.database("socketio").await;
    let near = socketio::node(stage, &database, None)?;
    let far = socketio::other_node(stage, &database)?;
    let count = 1000;
    let mut watchers = Watchers::open(near.address, count, &socketio::watching());
    // The adapters know each other after their first messages.
    watchers.pump_for(Duration::from_secs(2), &mut |_, _, _| {});
    let mut line = Line::open(far.address);
    let mut took = Vec::new();
    for number in 1..=stage.either(60, 5) {
        let request = post(&format!("/join?user={number}"), "", "");
        took.push(until_all_hear(&mut watchers, &mut line, &request));
    }
    report.value("reach_socketio_1000_watchers_other_replica_p50_ms", percentile(&took, 0.5), Bar::None);
    report.value("reach_socketio_1000_watchers_other_replica_p99_ms", percentile(&took, 0.99), Bar::None);
    Ok(())
}

/// Each member of the room is told of all of them.
async fn taught(stage: &Stage, report: &mut Report) -> Result<(), String> {
    let peer = actioncable::start(stage).await?;
    let count = stage.either(1000, 50);
    Line::open(peer.address).ask(&post(&format!("/members?count={count}"), "", ""));
    // They only watch; the members are in the hash already, so that opening is not a thousand broadcasts.
    let script = actioncable::watching_presence();
    let mut watchers = Watchers::open(peer.address, count, &script);
    let joiner = 15_000_u64;
    let begin = Instant::now();
    let one = Watchers::open(peer.address, 1, &actioncable::present(&mark(joiner)));
    let heard = watchers.until(Duration::from_secs(120), |watcher| watcher.latest >= joiner);
    drop(one);
    if !heard {
        return Err("not every watcher heard of a join within two minutes".into());
    }
    let millis = begin.elapsed().as_secs_f64() * 1000.0;
    report.value(&format!("reach_actioncable_{count}_watchers_ms"), millis, Bar::None);
    if count == 1000 {
        let ours = report.get("reach_1000_watchers_other_replica_p50_ms");
        report.ratio("reach_1000_watchers_actioncable_to_headcount_ratio", millis, ours, Bar::AtLeast(500.0));
    }
    Ok(())
}
