//! A hundred thousand sessions expire at once, with log and events, while others go on beating.

use std::time::{Duration, Instant};

use super::heartbeats::{Beats, sessions};
use crate::callers::{Callers, Pace};
use crate::report::{Bar, Report, percentile};
use crate::stage::{Database, Setup, Stage};

/// Heartbeats a second meanwhile.
const RATE: f64 = 2000.0;

pub async fn measure(stage: &Stage, report: &mut Report) {
    let expired = stage.either(100_000, 5000);
    let (mut took, mut calm, mut swept) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.either(3, 1) {
        let database = stage.database("sweep").await;
        let living = sessions(&database, "living", 1000).await;
        for room in 0..100 {
            let each = expired / 100;
            database
                .populate(&format!("room{room}"), 10_000 + room * each, 10_000 + (room + 1) * each - 1)
                .await;
        }
        database.execute("vacuum analyze").await;
        // Or the time since then would look like an outage, after which departures are spread.
        database.execute("update headcount.sweep_state set last_sweep_at = now()").await;
        let replica = database.replica(Setup { long_leases: true, ..Setup::default() });
        let mut callers = Callers::open(replica.address, 64);
        let mut beats = Beats::new(&living);
        let length = stage.either(Duration::from_secs(5), Duration::from_secs(1));
        callers.run(Pace::PerSecond(RATE), length / 2, &mut beats);
        calm.push(percentile(&callers.run(Pace::PerSecond(RATE), length, &mut beats).millis, 0.99));
        let sweeping = tokio::spawn(sweep(database, expired));
        // The same length, so that the percentile is of as many; a sweep that takes longer is still waited for.
        swept.push(percentile(&callers.run(Pace::PerSecond(RATE), length, &mut beats).millis, 0.99));
        took.push(sweeping.await.expect("the sweep is waited for"));
    }
    report.runs(&format!("sweep_{expired}_sessions_s"), &took, Bar::AtMost(5.0));
    let calm = report.runs("sweep_heartbeats_p99_before_ms", &calm, Bar::None);
    let swept = report.runs("sweep_heartbeats_p99_meanwhile_ms", &swept, Bar::None);
    report.ratio("sweep_heartbeats_p99_ratio", swept, calm, Bar::AtMost(3.0));
}

/// Has their leases run out; gives the seconds until all of their leaves are in the log.
async fn sweep(database: Database, expired: u64) -> f64 {
    let logged = "select count(*) from headcount.events where reason = 'expired'";
    let mut connection = database.connect().await;
    database
        .execute(
            "update headcount.presence set last_seen = now() - interval '2 h'
             where session_id in (select session_id from headcount.memberships where room_id like 'room%')",
        )
        .await;
    let begin = Instant::now();
    // The oldest is enough: to count them again and again would be a load of its own.
    let left = "select coalesce(min(last_seen) < now() - interval '90 min', false) from headcount.presence";
    loop {
        let left: bool = sqlx::query_scalar(left).fetch_one(&mut connection).await.expect("Postgres answers");
        if !left {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "sessions are still there: were they spread?");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    assert!(database.number(logged).await >= expired as f64, "every one of them is in the log");
    seconds
}
