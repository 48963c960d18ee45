//! Everybody at once: watchers who come back, joins, sessions that expire while a sweeper is killed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use headcount::store::embedded::Durability;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::s;
use crate::fleet::Size;
use crate::postgres::signal;
use crate::replica::SERVER_KEY;
use crate::run::{Plan, Run, all, only_in_all, scenario};
use crate::summary::millis;

/// Descriptors: a process has 20,000.
pub(super) fn crowd() -> usize {
    if all() { 10_000 } else { 1000 }
}

/// A fleet beside which the crowd is counted.
pub(super) fn small(name: &'static str) -> Plan {
    let mut plan = Plan::new(name);
    plan.size = Size { rooms: 4, wanderers: 6, stayers: 8, watchers: 4 };
    plan
}

/// A replica with all of them shuts down; they come back to the other one with what they heard last.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_come_back_all_at_once() {
    scenario(small("watchers_reconnect"), async |run: &mut Run| {
        let http = run.fleet.world.http.clone();
        let [first, second] = [run.replicas[0].base(), run.replicas[1].base()];
        let few = Arc::new(Semaphore::new(200));
        let streams = join_all((0..crowd()).map(|n| open(&http, &first, n, None, &few))).await;
        let opened = streams.iter().flatten().count();
        assert_eq!(opened, crowd(), "all are let in");
        run.begin("drain");
        let draining = tokio::spawn(until_ends(streams.into_iter().flatten().collect()));
        let took = run.replicas[0].terminate().await;
        assert!(took < s(6), "P12: ends within 5 s, took {took:?}"); // and a moment for this test to notice
        run.measure("stop_with_crowd_ms", millis(took));
        let ends = draining.await.unwrap();
        assert_eq!(ends.iter().filter(|(bye, _)| *bye).count(), crowd(), "everybody is told");
        let from = Instant::now();
        let back = join_all(
            ends.iter().enumerate().map(|(n, (_, id))| open(&http, &second, n, id.as_deref(), &few)),
        );
        let back = back.await.into_iter().flatten().count();
        run.measure("crowd_back_ms", millis(from.elapsed()));
        assert_eq!(back, crowd(), "all are let in again");
        run.replicas[0].start().await;
        run.heal("drain");
        run.recover().await;
    })
    .await;
}

pub(super) type Text =
    std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>;

/// Opens a stream and hears its first frame.
pub(super) async fn open(
    http: &reqwest::Client,
    base: &str,
    n: usize,
    last: Option<&str>,
    few: &Semaphore,
) -> Option<(Text, Vec<u8>)> {
    let _one_of_few = few.acquire().await.unwrap(); // a listen queue holds a thousand
    let mut request = http.get(format!("{base}/v1/rooms/room{}/events", n % 4)).bearer_auth(SERVER_KEY);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.ok()?.error_for_status().ok()?;
    let mut stream: Text = Box::pin(response.bytes_stream());
    let mut text = Vec::new();
    while !text.windows(4).any(|window| window == b"id: ") {
        text.extend_from_slice(&timeout(s(20), stream.next()).await.ok()??.ok()?);
    }
    Some((stream, text))
}

/// Reads all of them to their ends. Gives for each whether it was told, and its last id.
pub(super) async fn until_ends(streams: Vec<(Text, Vec<u8>)>) -> Vec<(bool, Option<String>)> {
    let ends = streams.into_iter().map(|(mut stream, mut text)| async move {
        while let Some(Ok(bytes)) = stream.next().await {
            text.extend_from_slice(&bytes);
        }
        let text = String::from_utf8(text).unwrap();
        let id = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().map(str::to_owned);
        (text.contains("event: bye"), id)
    });
    join_all(ends).await
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_all_at_once() {
    scenario(small("joins_at_once"), async |run: &mut Run| {
        run.begin("storm");
        for (name, rooms) in [("one_room_ms", 1), ("a_room_each_ms", crowd())] {
            let from = Instant::now();
            let tries = join_all((0..crowd()).map(|n| join(run, name, n, n % rooms))).await;
            run.measure(name, millis(from.elapsed()));
            run.measure("most_tries", tries.into_iter().max().unwrap());
        }
        // Not the number of joins: in a long storm some have expired before all had come.
        let joined = "select count(distinct (room_id, user_id)) from headcount.events \
                      where user_id like 'crowd%' and kind = 'joined'";
        let joined = run.database.number(joined).await;
        assert_eq!(joined, i64::try_from(2 * crowd()).unwrap(), "everybody has joined");
        forget(run).await;
        run.heal("storm");
        run.recover().await;
    })
    .await;
}

/// Until it is acked. Gives the number of tries.
async fn join(run: &Run, name: &str, n: usize, room: usize) -> u64 {
    let session = uuid::Uuid::new_v4();
    let body = json!({"user": format!("crowd_{name}_{n}"), "session": session});
    for tries in 1.. {
        let base = &run.fleet.world.bases[(n + usize::try_from(tries).unwrap()) % 2];
        let url = format!("{base}/v1/rooms/crowd_{name}_{room}/join");
        let request = run.fleet.world.http.post(url).bearer_auth(SERVER_KEY).json(&body).timeout(s(10));
        match request.send().await {
            Ok(response) if response.status().is_success() => return tries,
            // Among ten thousand that connect at once some do not get to say what they want within 5 s: 408.
            Ok(response) => {
                assert!([408, 503].contains(&response.status().as_u16()), "{}", response.status());
            }
            Err(_) => {}
        }
        run.load(Duration::from_millis(rand::random_range(100..1000))).await;
        assert!(tries < 100, "a join is acked in the end");
    }
    unreachable!()
}

/// The checker knows nothing of the crowd: what the laws say of it has been asked by `Run::finish`, the rest here.
async fn forget(run: &Run) {
    let crowd = "select count(*) from headcount.presence where user_id like 'crowd%'";
    run.database.until("P8: silent sessions go", s(60), crowd, |n| n == 0).await;
    run.database.lawful().await;
    run.database
        .execute("delete from headcount.events where room_id like 'crowd%'; delete from headcount.rooms where room_id like 'crowd%'")
        .await;
}

/// A thousand sessions expire together; whoever sweeps is killed in the middle of it. The other one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn sweeper_killed_in_the_middle() {
    scenario(small("sweeper_killed"), async |run: &mut Run| {
        run.begin("storm");
        join_all((0..crowd()).map(|n| join(run, "swept", n, n % 50))).await;
        let crowd = "select count(*) from headcount.presence where user_id like 'crowd%'";
        let before = run.database.number(crowd).await;
        let from = Instant::now();
        while run.database.number(crowd).await == before {
            assert!(from.elapsed() < s(30), "silent sessions are swept");
            tokio::task::yield_now().await;
        }
        signal(run.replicas[0].pid(), Signal::STOP); // whatever it is doing
        run.replicas[0].kill();
        run.load(Duration::from_millis(500)).await;
        run.replicas[0].start().await;
        forget(run).await;
        run.measure("all_swept_ms", millis(from.elapsed()));
        run.heal("storm");
        run.recover().await;
    })
    .await;
}

/// Postgres is away for longer than a lease, and so many never come back: they leave, but not all in one second.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_stays_away_leaves_spread() {
    if !only_in_all("crowd_stays_away") {
        return;
    }
    let mut plan = small("crowd_stays_away");
    plan.durability = Durability::Full;
    scenario(plan, async |run: &mut Run| {
        run.begin("outage");
        join_all((0..crowd() / 4).map(|n| join(run, "away", n, n % 50))).await;
        run.database.kill().await;
        run.load(s(5)).await;
        run.database.start_again().await;
        run.database.execute("create table back as select clock_timestamp() as at").await;
        let from = Instant::now();
        let left = "select count(*) from headcount.presence where user_id like 'crowd%'";
        run.database.until("silent sessions are swept", s(60), left, |n| n == 0).await;
        run.measure("all_left_ms", millis(from.elapsed()));
        let most = run
            .database
            .number(
                "select coalesce(max(count), 0) from (select count(*) over (order by at \
                     range between interval '990 ms' preceding and current row) \
                 from headcount.events where user_id like 'crowd%' and kind = 'left' \
                     and at > (select at from back)) counts",
            )
            .await;
        run.measure("most_left_in_a_second", most.try_into().unwrap());
        assert!((100..=550).contains(&most), "at most 500 a second and a sweep's share more: {most}");
        forget(run).await;
        run.heal("outage");
        run.recover().await;
    })
    .await;
}
