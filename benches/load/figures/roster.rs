//! Reading who is there: rooms of 10, 1000 and 10,000 members, page by page and as the first frame of a stream.

use std::time::{Duration, Instant};

use crate::callers::{Callers, Calls, Pace};
use crate::peers::headcount::watching;
use crate::report::{Bar, Report, percentile};
use crate::request::{Line, get};
use crate::stage::{Setup, Stage, token};
use crate::watchers::Watchers;

struct Same(Vec<u8>);

impl Calls for Same {
    fn next(&mut self, _: usize, request: &mut Vec<u8>) -> Option<u64> {
        request.extend_from_slice(&self.0);
        Some(0)
    }
}

pub async fn measure(stage: &Stage, report: &mut Report) {
    let database = stage.database("roster").await;
    let sizes = [10, 1000, 10_000];
    for members in sizes {
        database.populate(&format!("room{members}"), 1, members).await;
    }
    database.execute("vacuum analyze").await;
    let replica = database.replica(Setup { long_leases: true, ..Setup::default() });
    let token = token("reader");
    let run = stage.either(Duration::from_secs(2), Duration::from_millis(300));
    let mut callers = Callers::open(replica.address, 32);
    for members in sizes {
        let (mut rates, mut whole, mut opening) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..stage.either(5, 1) {
            let mut first = Same(get(&format!("/v1/rooms/room{members}?limit=100"), &token, ""));
            rates.push(callers.run(Pace::Closed, run, &mut first).per_second());
            let all = (0..stage.either(10, 2)).map(|_| read_all(replica.address, members, &token));
            whole.push(percentile(&all.collect::<Vec<_>>(), 0.5));
            let stream = |_| {
                let begin = Instant::now();
                drop(Watchers::open(replica.address, 1, &watching(&format!("room{members}"))));
                begin.elapsed().as_secs_f64() * 1000.0
            };
            opening.push(percentile(&(0..5).map(stream).collect::<Vec<_>>(), 0.5));
        }
        report.runs(&format!("roster_{members}_members_first_100_per_s"), &rates, Bar::None);
        report.runs(&format!("roster_{members}_members_all_pages_p50_ms"), &whole, Bar::None);
        report.runs(&format!("roster_{members}_members_stream_opens_p50_ms"), &opening, Bar::None);
    }
}

/// Milliseconds for all pages.
fn read_all(address: std::net::SocketAddr, members: u64, token: &str) -> f64 {
    let mut line = Line::open(address);
    let begin = Instant::now();
    let (mut seen, mut after) = (0, String::new());
    loop {
        let path = format!("/v1/rooms/room{members}?limit=1000{after}");
        let page: serde_json::Value =
            serde_json::from_slice(&line.ask(&get(&path, token, ""))).expect("a page is JSON");
        seen += page["members"].as_array().map_or(0, Vec::len) as u64;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, members, "every member is on a page");
    begin.elapsed().as_secs_f64() * 1000.0
}
