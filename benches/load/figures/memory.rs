//! Resident memory of the server per watcher that has nothing to do, and after some traffic.

use std::time::Duration;

use crate::peers;
use crate::report::{Bar, Report};
use crate::stage::Stage;
use crate::watchers::Watchers;

pub async fn measure(stage: &Stage, report: &mut Report, count: usize) {
    for name in peers::NAMES {
        let (mut idle, mut after) = (Vec::new(), Vec::new());
        for _ in 0..stage.either(2, 1) {
            let mut peer = match peers::start(name, stage).await {
                Ok(peer) => peer,
                Err(why) => {
                    report.fail(&format!("memory_{name}"), &why);
                    break;
                }
            };
            let before = peer.server.resident();
            let mut watchers = Watchers::open(peer.address, count, &peer.script);
            watchers.pump_for(Duration::from_secs(2), &mut |_, _, _| {});
            let kib = |now: f64| (now - before).max(0.0) / 1024.0 / count as f64;
            idle.push(kib(peer.server.resident()));
            for number in 1..=4 {
                peer.publisher.publish(number, 1);
                assert!(
                    watchers.until_marks(count as u64, Duration::from_secs(60)),
                    "not every watcher heard"
                );
                peer.publisher.settle();
            }
            after.push(kib(peer.server.resident()));
        }
        let ours = name == "headcount" && count == 10_000;
        let bar = if ours { Bar::AtMost(12.5) } else { Bar::None };
        if !idle.is_empty() {
            report.runs(&format!("memory_{name}_{count}_watchers_idle_kib"), &idle, bar);
            report.runs(&format!("memory_{name}_{count}_watchers_after_traffic_kib"), &after, Bar::None);
        }
    }
}
