//! A replica is killed and started again, and all of its watchers come back at once with where they were.

use std::time::Instant;

use crate::peers::headcount::watching;
use crate::report::{Bar, Report, percentile};
use crate::request::get;
use crate::stage::{Setup, Stage, token};
use crate::watchers::{Script, Watchers};

/// Connections under way at once.
const AT_ONCE: usize = 2000;

pub async fn measure(stage: &Stage, report: &mut Report) {
    let database = stage.database("storm").await;
    database.populate("storm", 1, 100).await;
    let count = stage.either(10_000, 500);
    let (mut all, mut p99, mut each, mut drained) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.either(3, 1) {
        let replica = database.replica(Setup { long_leases: true, ..Setup::default() });
        let watchers = Watchers::open(replica.address, count, &watching("storm"));
        let port = replica.address.port();
        drop(watchers);
        drop(replica); // kill -9
        let replica = database.replica(Setup { long_leases: true, port, ..Setup::default() });
        let cursor = cursor(replica.address);
        let hello = get("/v1/rooms/storm/events", &token("watcher"), &format!("last-event-id: {cursor}\r\n"));
        let returning = Script { hello, then: None, ready: b"event: sync" };
        let begin = Instant::now();
        let watchers = Watchers::open_at_once(replica.address, count, &returning, AT_ONCE);
        all.push(begin.elapsed().as_secs_f64());
        let took = watchers
            .all()
            .iter()
            .filter_map(|watcher| Some((watcher.opened? - watcher.started).as_secs_f64() * 1000.0));
        p99.push(percentile(&took.collect::<Vec<_>>(), 0.99));
        each.push(replica.process.cpu().as_secs_f64() * 1e6 / count as f64);
        drained.push(replica.process.terminate().as_secs_f64());
        drop(watchers);
    }
    report.runs(&format!("storm_{count}_watchers_all_back_s"), &all, Bar::None);
    report.runs(&format!("storm_{count}_watchers_back_p99_ms"), &p99, Bar::None);
    report.runs(&format!("storm_{count}_watchers_cpu_each_us"), &each, Bar::None);
    report.runs(&format!("storm_{count}_watchers_drained_s"), &drained, Bar::AtMost(5.0));
}

/// Where the room is.
fn cursor(address: std::net::SocketAddr) -> String {
    let body =
        crate::request::Line::open(address).ask(&get("/v1/rooms/storm?limit=1", &token("watcher"), ""));
    let page: serde_json::Value = serde_json::from_slice(&body).expect("a page is JSON");
    page["cursor"].as_str().expect("a page has a cursor").to_owned()
}
