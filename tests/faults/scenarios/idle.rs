//! As many idle streams as a process has descriptors for: what they cost, and that their coming and going is nobody's event.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::s;
use super::storms::{Text, crowd, open, small, until_ends};
use crate::postgres::resources;
use crate::run::{Run, only_in_all, scenario};
use crate::summary::millis;

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_cost_little_and_cause_no_event() {
    if !only_in_all("idle_streams") {
        return;
    }
    let mut plan = small("idle_streams");
    plan.size.wanderers = 0;
    scenario(plan, async |run: &mut Run| {
        let joined = "select count(*) from headcount.presence";
        run.database.until("everybody is there", s(20), joined, |n| n >= 8).await;
        let events = "select count(*) from headcount.events";
        let before = run.database.number(events).await;

        let empty = resources(run.replicas[0].pid());
        let streams = come(run, 0, vec![None; crowd()]).await;
        run.load(s(17)).await; // every stream has had a `sync`
        let full = resources(run.replicas[0].pid());
        run.measure("bytes_per_stream", (full.resident - empty.resident) / u64::try_from(crowd()).unwrap());

        run.begin("kill -9");
        let ending = tokio::spawn(until_ends(streams));
        run.replicas[0].kill();
        let ends = ending.await.unwrap();
        let from = Instant::now();
        let streams = come(run, 1, ends.into_iter().map(|(_, id)| id).collect()).await;
        run.measure("back_after_kill_ms", millis(from.elapsed()));
        run.replicas[0].start().await;
        run.heal("kill -9");
        run.load(s(2)).await;

        run.begin("drain");
        let ending = tokio::spawn(until_ends(streams));
        let took = run.replicas[1].terminate().await;
        run.measure("stop_ms", millis(took));
        assert!(took < s(6), "P12: ends within 5 s, took {took:?}"); // and a moment for this test to notice
        assert!(ending.await.unwrap().iter().all(|(bye, _)| *bye), "everybody is told");
        run.replicas[1].start().await;
        run.heal("drain");
        run.load(s(4)).await; // a lease and a sweep: who was lost would be gone now
        assert_eq!(run.database.number(events).await, before, "no event is caused");
    })
    .await;
}

/// Opens a stream for each, from where it was, at one replica.
async fn come(run: &Run, replica: usize, from: Vec<Option<String>>) -> Vec<(Text, Vec<u8>)> {
    let (http, base) = (run.fleet.world.http.clone(), run.replicas[replica].base());
    let (few, many) = (Arc::new(Semaphore::new(200)), from.len());
    let streams = from.iter().enumerate().map(|(n, last)| open(&http, &base, n, last.as_deref(), &few));
    let streams: Vec<_> = join_all(streams).await.into_iter().flatten().collect();
    assert_eq!(streams.len(), many, "all are let in");
    streams
}
