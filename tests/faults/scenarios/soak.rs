//! One fault after another for a long time, while the memory and the descriptors of a replica that is never ended are
//! watched. `make soak` runs it.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use sqlx::{Connection, Executor};
use tokio::time::Instant;

use super::s;
use crate::postgres::{Resources, resources, signal};
use crate::proxy::{How, Mode};
use crate::run::{Plan, Run, scenario};
use crate::summary::millis;

/// The replica that lives through all of it.
const WITNESS: usize = 1;

#[tokio::test(flavor = "multi_thread")]
async fn soak() {
    let Some(minutes) = std::env::var("HEADCOUNT_FAULTS_SOAK").ok() else {
        eprintln!("soak: skipped; `make soak` runs it");
        return;
    };
    let time = s(60 * minutes.parse::<u64>().expect("HEADCOUNT_FAULTS_SOAK is a number of minutes"));
    let mut plan = Plan::new("soak");
    plan.durability = headcount::store::embedded::Durability::Full;
    plan.linger = s(10);
    scenario(plan, async |run: &mut Run| {
        let mut random = StdRng::seed_from_u64(run.seed);
        let (from, mut faults, mut samples) = (Instant::now(), 0, Vec::new());
        while from.elapsed() < time {
            run.load(Duration::from_millis(random.random_range(4000..8000))).await;
            samples.push((from.elapsed(), resources(run.replicas[WITNESS].pid())));
            let name = break_something(run, &mut random).await;
            run.heal(name);
            faults += 1;
            if faults % 10 == 0 {
                run.recover().await;
                run.next_episode().await;
            }
        }
        run.recover().await;
        run.measure("faults", faults);
        run.measure("minutes", millis(from.elapsed()) / 60_000);
        judge(run, &samples);
    })
    .await;
}

async fn break_something(run: &mut Run, random: &mut StdRng) -> &'static str {
    let victim = 1 - WITNESS;
    let time = Duration::from_millis(random.random_range(500..4000));
    let how = if random.random_bool(0.5) { How::Fin } else { How::Rst };
    let names = [
        "replica killed",
        "replica restarted",
        "replica stopped",
        "listeners cut",
        "listeners half-open",
        "links cut",
        "links slow",
        "links held",
        "backends terminated",
        "postgres restarted",
        "postmaster killed",
        "postgres hung",
        "room held",
    ];
    let name = names[random.random_range(0..names.len())];
    run.begin(name);
    match name {
        "replica killed" => {
            run.replicas[victim].kill();
            run.load(time).await;
            run.replicas[victim].start().await;
        }
        "replica restarted" => {
            run.replicas[victim].terminate().await;
            run.replicas[victim].start().await;
        }
        "replica stopped" => {
            let pid = run.replicas[victim].pid();
            signal(pid, Signal::STOP);
            run.load(time).await;
            signal(pid, Signal::CONT);
        }
        "listeners cut" => run.ears.iter().for_each(|ear| ear.cut(how)),
        "listeners half-open" => {
            run.ears.iter().for_each(crate::proxy::Proxy::half_open);
            run.load(s(7)).await; // until the nonce is missed
        }
        "links cut" => run.links.iter().for_each(|link| link.cut(how)),
        "links slow" => through(run, Mode::Delay(Duration::from_millis(200)), time).await,
        "links held" => through(run, Mode::Hold, time).await,
        "backends terminated" => {
            let terminate = "select pg_terminate_backend(pid) from pg_stat_activity \
                             where split_part(application_name, ' ', 1) = 'headcount' and pid <> pg_backend_pid()";
            run.database.execute(terminate).await;
        }
        "postgres restarted" => {
            run.database.stop().await;
            run.database.start_again().await;
        }
        "postmaster killed" => {
            run.database.kill().await;
            run.load(time).await;
            run.database.start_again().await;
        }
        "postgres hung" => {
            let hang = run.database.hang();
            run.load(time).await;
            drop(hang);
        }
        _ => {
            let mut person = run.database.connect().await;
            let mut held = person.begin().await.unwrap();
            held.execute("select from headcount.rooms where room_id = 'room0' for update").await.unwrap();
            run.load(time).await;
            held.rollback().await.unwrap();
        }
    }
    name
}

async fn through(run: &Run, mode: Mode, time: Duration) {
    let links = || run.links.iter().chain(&run.ears);
    links().for_each(|link| link.set(mode));
    run.load(time).await;
    links().for_each(|link| link.set(Mode::Pass));
}

/// The slopes, from when a fifth of the time has passed: what grows with time would show.
fn judge(run: &mut Run, samples: &[(Duration, Resources)]) {
    let samples = &samples[samples.len() / 5..];
    let slope = |value: fn(&Resources) -> u64| {
        let points = samples.iter().map(|(at, found)| (at.as_secs_f64() / 60.0, value(found) as f64));
        least_squares(&points.collect::<Vec<_>>())
    };
    let (memory, descriptors) = (slope(|found| found.resident), slope(|found| found.descriptors));
    let last = samples.last().unwrap().1;
    eprintln!("soak: {memory:.0} bytes and {descriptors:.3} descriptors a minute; {last:?} at the end");
    run.measure("resident_kib_at_the_end", last.resident / 1024);
    run.measure("descriptors_at_the_end", last.descriptors);
    run.measure("growth_bytes_a_minute", memory.max(0.0) as u64);
    run.measure("growth_descriptors_a_day", (descriptors * 1440.0).max(0.0) as u64);
    let minutes = (samples.last().unwrap().0 - samples[0].0).as_secs_f64() / 60.0;
    assert!(memory * minutes < 4e6, "grew by {memory:.0} bytes a minute");
    assert!(descriptors * minutes < 5.0, "grew by {descriptors:.2} descriptors a minute");
}

/// The slope of the line nearest to the points.
fn least_squares(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / n, sum.1 + point.1 / n));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    above / below
}
