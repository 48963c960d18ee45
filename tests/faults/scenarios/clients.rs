//! Clients that die, stall, and come back all at once.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::s;
use crate::clients::token;
use crate::proxy::{How, Mode, Proxy, Upstream};
use crate::recording::{Asked, Edge, Kind, Outcome, What};
use crate::run::{Plan, Run, only_in_all, scenario};
use crate::summary::millis;
use crate::wait::{elapse, until_so};

/// Joins, each cut somewhere between its first byte and after its answer. Whether it was done is open; that nothing is
/// half done and nobody else suffers is not.
#[tokio::test(flavor = "multi_thread")]
async fn clients_die_in_the_middle_of_a_request() {
    scenario(Plan::new("clients_die"), async |run: &mut Run| {
        run.load(s(1)).await;
        let mut random = StdRng::seed_from_u64(run.seed);
        for n in 0..300 {
            let how = if n % 2 == 0 { How::Fin } else { How::Rst };
            die(run, n, how, &mut random).await;
        }
        run.load(s(2)).await;
        let idle = "select count(*) from pg_stat_activity \
                    where split_part(application_name, ' ', 1) = 'headcount' and state like 'idle in transaction%'";
        assert_eq!(run.database.number(idle).await, 0, "no connection is left inside a transaction");
    })
    .await;
}

async fn die(run: &Run, n: usize, how: How, random: &mut StdRng) {
    let (user, room) = (format!("d{n}"), format!("room{}", n % 4));
    let session = uuid::Builder::from_random_bytes(random.random()).into_uuid().to_string();
    let body = json!({"session": session}).to_string();
    let request = format!(
        "POST /v1/rooms/{room}/join HTTP/1.1\r\nhost: headcount\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        token(&user),
        body.len()
    );
    let op = run.recorder.number();
    run.recorder.record(What::Asked(Asked {
        op,
        client: user.clone(),
        user,
        session,
        room,
        kind: Kind::Join,
        state: None,
        seq: None,
    }));
    let mut stream = TcpStream::connect(("127.0.0.1", run.replicas[n % 2].port)).await.unwrap();
    let most = if random.random_bool(0.3) { random.random_range(1..request.len()) } else { request.len() };
    stream.write_all(&request.as_bytes()[..most]).await.unwrap();
    elapse(Duration::from_micros(random.random_range(0..8000))).await;
    if how == How::Rst {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(stream);
    run.recorder.record(What::Answered { op, outcome: Outcome::Lost });
}

/// A few tabs of many are suspended, then all: who does not read is cut, and resumes; who reads does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_suspended() {
    let mut plan = Plan::new("watchers_suspended");
    plan.size.watchers = 0;
    scenario(plan, async |run: &mut Run| {
        let bases = [through_links(run).await, through_links(run).await];
        for n in 0..24 {
            let (name, slow) = if n < 4 { (format!("suspended{n}"), 1) } else { (format!("watcher{n}"), 0) };
            run.fleet.watch_at(&name, n % 2, "list", bases[slow].clone());
        }
        // Lists of 30 KB: what a kernel buffers is used up soon.
        let state = "x".repeat(900);
        for n in 0..60 {
            run.fleet.stay(&format!("fat{n}"), &format!("f{n}"), n % 2, json!({"state": {"fat": state}}));
        }
        run.load(s(3)).await;
        for (mode, links) in [(Mode::Hold, 2..4), (Mode::Trickle(5000), 2..4), (Mode::Hold, 0..4)] {
            let only = (links.start > 0).then_some(4).into_iter().flat_map(|n| 0..n);
            let only: Vec<Option<String>> = only.map(|n| Some(format!("suspended{n}"))).collect();
            let only = if only.is_empty() { vec![None] } else { only };
            only.iter().for_each(|only| suffer(run, Edge::Begin, only));
            run.spare[links.clone()].iter().for_each(|link| link.set(mode));
            run.load(s(4)).await;
            run.spare[links].iter().for_each(|link| link.set(Mode::Pass));
            only.iter().for_each(|only| suffer(run, Edge::End, only));
            run.load(s(2)).await;
        }
        for how in [How::Rst, How::Fin] {
            run.spare.iter().for_each(|link| link.cut(how));
            run.load(s(1)).await;
        }
        run.recorder.healed();
        let slow = run.recorder.records().into_iter().filter(|record| match &record.what {
            What::Frame(frame) => frame.reason.as_deref() == Some("slow"),
            _ => false,
        });
        let slow = u64::try_from(slow.count()).unwrap();
        run.measure("cut_as_slow", slow);
        assert!(slow > 0, "P10: who does not read is cut");
        run.recover().await;
    })
    .await;
}

fn suffer(run: &Run, edge: Edge, only: &Option<String>) {
    run.recorder.record(What::Fault { name: "suspended".to_owned(), edge, only: only.clone() });
}

/// Ways to the replicas that can be broken.
async fn through_links(run: &mut Run) -> Arc<Vec<String>> {
    let mut bases = Vec::new();
    for replica in &run.replicas {
        let link = Proxy::start(Upstream::Tcp(([127, 0, 0, 1], replica.port).into())).await;
        bases.push(format!("http://127.0.0.1:{}", link.port));
        run.spare.push(link);
    }
    Arc::new(bases)
}

/// Watchers that vanish without a word, as behind a dead NAT: after `TCP_USER_TIMEOUT` their places are free.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_vanish_without_a_word() {
    if !only_in_all("watchers_vanish") {
        return;
    }
    scenario(Plan::new("watchers_vanish"), async |run: &mut Run| {
        let bases = through_links(run).await;
        for n in 0..20 {
            run.fleet.watch_at(&format!("vanishing{n}"), n % 4, "list", bases.clone());
        }
        for n in 0..60 {
            let state = json!({"state": {"fat": "x".repeat(900)}});
            run.fleet.stay(&format!("fat{n}"), &format!("f{n}"), n % 4, state);
        }
        run.load(s(3)).await;
        let before = watchers(run).await;
        let from = run.recorder.now();
        for n in 0..20 {
            suffer(run, Edge::Begin, &Some(format!("vanishing{n}")));
        }
        run.spare.iter().for_each(|link| link.set(Mode::Hold));
        let freed = async || watchers(run).await <= before - 20;
        until_so("places of vanished watchers are freed", s(60), freed).await;
        let took = run.recorder.now() - from;
        run.measure("places_free_after_ms", millis(took));
        run.spare.iter().for_each(|link| link.set(Mode::Pass));
        for n in 0..20 {
            suffer(run, Edge::End, &Some(format!("vanishing{n}")));
        }
        run.recorder.healed();
        run.recover().await;
    })
    .await;
}

/// Open streams, as the replicas say.
async fn watchers(run: &Run) -> usize {
    let mut open = 0;
    for base in run.fleet.world.bases.iter() {
        let answer = run.fleet.world.http.get(format!("{base}/metrics")).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("headcount_watchers "));
        open += line.unwrap().parse::<usize>().unwrap();
    }
    open
}
