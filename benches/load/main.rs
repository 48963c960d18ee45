//! What headcount costs, as ratios against raw limits measured in the same run.
//!
//! Runs are interleaved (A B A B), each figure is the median of its rounds. Prints a table and writes
//! `target/bench/summary.json`. Timings are no tests: nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]
#![expect(clippy::cast_precision_loss, reason = "figures are far below 2^52")]

mod stage;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use uuid::Uuid;

use stage::{Stage, token, trivial_server};
use wire::{Wire, get, post};

/// One measured run.
const RUN: Duration = Duration::from_secs(4);

/// Rounds of each figure.
const ROUNDS: usize = 3;

/// Callers at once.
const CALLERS: usize = 256;

/// Watchers of the fan-out.
const WATCHERS: usize = 1000;

#[tokio::main]
async fn main() {
    let stage = Stage::set().await;
    let mut figures = Map::new();
    heartbeats(&stage, &mut figures).await;
    joins(&stage, &mut figures).await;
    fan_out(&stage, &mut figures).await;
    stage.clear().await;
    for (name, value) in &figures {
        println!("{name:60} {value}");
    }
    std::fs::create_dir_all("target/bench").expect("target can be written");
    let text = serde_json::to_string_pretty(&figures).expect("figures are a map");
    std::fs::write("target/bench/summary.json", text).expect("target can be written");
}

fn record(figures: &mut Map<String, Value>, name: &str, mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    let median = runs[runs.len() / 2];
    let spread = [runs[0].round(), runs[runs.len() - 1].round()];
    figures.insert(name.into(), json!({"median": median.round(), "spread": spread}));
    median
}

fn ratio(figures: &mut Map<String, Value>, name: &str, a: f64, b: f64) {
    figures.insert(name.into(), json!((a / b * 100.0).round() / 100.0));
}

/// Requests a second that callers get answered, each asking again as soon as it is answered.
async fn rate(address: SocketAddr, requests: Vec<Box<dyn FnMut() -> Vec<u8> + Send>>) -> f64 {
    let answered = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    let begin = Instant::now();
    for mut request in requests {
        let answered = answered.clone();
        callers.spawn(async move {
            let mut wire = Wire::open(address).await;
            while begin.elapsed() < RUN {
                let status = wire.ask(&request()).await;
                assert_eq!(status, 200, "a call was refused");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while callers.join_next().await.is_some() {}
    answered.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// Heartbeats over HTTP, acked after commit; a trivial actix handler; the same batches driven straight at Postgres.
async fn heartbeats(stage: &Stage, figures: &mut Map<String, Value>) {
    let trivial = trivial_server();
    let sessions: Vec<(String, Uuid)> =
        (0..CALLERS).map(|n| (token(&format!("beat{n}")), Uuid::new_v4())).collect();
    for (token, session) in &sessions {
        let body = json!({"session": session}).to_string();
        let mut wire = Wire::open(stage.address).await;
        assert_eq!(wire.ask(&post("/v1/rooms/beats/join", token, &body)).await, 200);
    }
    let requests = || -> Vec<Box<dyn FnMut() -> Vec<u8> + Send>> {
        let prepared = sessions.iter().map(|(token, session)| {
            let request = post("/v1/heartbeats", token, &json!({"session": session}).to_string());
            Box::new(move || request.clone()) as Box<dyn FnMut() -> Vec<u8> + Send>
        });
        prepared.collect()
    };
    let (mut ours, mut bare, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(rate(stage.address, requests()).await);
        bare.push(rate(trivial, requests()).await);
        raw.push(raw_heartbeats(stage, &sessions).await);
    }
    let ours = record(figures, "heartbeats/s over HTTP", ours);
    let bare = record(figures, "  trivial actix handler requests/s", bare);
    let raw = record(figures, "  the same batches straight at Postgres rows/s", raw);
    ratio(figures, "  of the trivial handler", ours, bare);
    ratio(figures, "  of Postgres", ours, raw);
}

async fn raw_heartbeats(stage: &Stage, sessions: &[(String, Uuid)]) -> f64 {
    let pool =
        sqlx::PgPool::connect_with(stage.postgres.connect_options("bench")).await.expect("Postgres accepts");
    let mut ids: Vec<Uuid> = sessions.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    let begin = Instant::now();
    let mut rows = 0;
    while begin.elapsed() < RUN {
        let statement = "with relaxed as materialized (select set_config('synchronous_commit', 'off', true)) \
             select h.session_id from relaxed, headcount.heartbeat($1, array_fill(null::text, array[cardinality($1)]), \
             array_fill(null::boolean, array[cardinality($1)]), array_fill(false, array[cardinality($1)]), \
             array_fill(null::bigint, array[cardinality($1)])) h";
        rows += sqlx::query(statement).bind(&ids).fetch_all(&pool).await.expect("Postgres answers").len();
    }
    rows as f64 / begin.elapsed().as_secs_f64()
}

/// Joins over 1000 rooms, acked after commit; one transaction a join, with its notification, on the same Postgres.
async fn joins(stage: &Stage, figures: &mut Map<String, Value>) {
    let (mut ours, mut single) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let requests = (0..CALLERS).map(|n| {
            let (token, mut count) = (token(&format!("join{round}-{n}")), 0_usize);
            Box::new(move || {
                count += 1;
                let body = json!({"session": Uuid::new_v4()}).to_string();
                post(&format!("/v1/rooms/room{}/join", (n * 7919 + count) % 1000), &token, &body)
            }) as Box<dyn FnMut() -> Vec<u8> + Send>
        });
        ours.push(rate(stage.address, requests.collect()).await);
        single.push(single_joins(stage, round).await);
    }
    let ours = record(figures, "joins/s over 1000 rooms, 256 callers", ours);
    let single = record(figures, "  one transaction a join, 32 connections, joins/s", single);
    ratio(figures, "  of single transactions", ours, single);
}

async fn single_joins(stage: &Stage, round: usize) -> f64 {
    let options = stage.postgres.connect_options("bench");
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(32).connect_with(options).await;
    let pool = pool.expect("Postgres accepts");
    let done = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for n in 0..32 {
        let (pool, done) = (pool.clone(), done.clone());
        callers.spawn(async move {
            for count in 0_usize.. {
                if begin.elapsed() > RUN {
                    return;
                }
                sqlx::query("select headcount.join($1, $2, $3)")
                    .bind(format!("single{}", (n * 7919 + count) % 1000))
                    .bind(format!("single{round}-{n}-{count}"))
                    .bind(Uuid::new_v4())
                    .execute(&pool)
                    .await
                    .expect("Postgres answers");
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while callers.join_next().await.is_some() {}
    done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// From the request of a join to the last of its room's watchers having it; memory of idle watchers.
async fn fan_out(stage: &Stage, figures: &mut Map<String, Value>) {
    let before = stage.resident();
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    let watching = get("/v1/rooms/fan/events", &token("watcher"));
    for _ in 0..WATCHERS {
        let mut stream = Wire::open(stage.address).await.watch(&watching).await;
        let heard = heard.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let frames = buffer[..read]
                    .windows(12)
                    .filter(|w| w == b"event: diff\n" || w == b"event: snaps")
                    .count();
                for _ in 0..frames {
                    let _ = heard.send(Instant::now());
                }
            }
        });
    }
    for _ in 0..WATCHERS {
        hearing.recv().await.expect("each watcher gets its snapshot");
    }
    let per_watcher = stage.resident().saturating_sub(before) as f64 / WATCHERS as f64 / 1024.0;
    figures
        .insert("KiB of resident memory per idle watcher".into(), json!((per_watcher * 10.0).round() / 10.0));
    let mut took = Vec::new();
    let mut wire = Wire::open(stage.address).await;
    for n in 0..60 {
        let request = post(
            "/v1/rooms/fan/join",
            &token(&format!("fan{n}")),
            &json!({"session": Uuid::new_v4()}).to_string(),
        );
        let begin = Instant::now();
        assert_eq!(wire.ask(&request).await, 200);
        let mut last = begin;
        for _ in 0..WATCHERS {
            last = hearing.recv().await.expect("every watcher hears of it");
        }
        took.push((last - begin).as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(30)).await; // past the room's coalescing
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| (took[(took.len() as f64 * share) as usize] * 10.0).round() / 10.0;
    figures.insert(
        format!("ms from a join to the last of {WATCHERS} watchers"),
        json!({"p50": at(0.5), "p99": at(0.99)}),
    );
}
