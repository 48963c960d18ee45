//! What an attacker costs others: the p99 of ordinary callers under each attack, as a ratio of the p99 of the same
//! callers in the calm before it.
//!
//! Calm and attack are interleaved, [`ROUNDS`] times each, on one replica with one worker, a fresh one for each attack. The ratio is the median of
//! those of the rounds, so that what else the machine does spoils a round and not the figure. Prints a table and writes
//! `target/bench/attack.json`. The attackers run on this machine too, so what they take of its processors counts
//! against the service. Timings are no tests: nothing here passes or fails, but for an ordinary caller that is refused.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]

mod attackers;
mod stage;
mod wire;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Map, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use attackers::Attack;
use stage::{Stage, token};
use wire::{Wire, get, post};

/// One measured stretch.
const RUN: Duration = Duration::from_secs(4);

/// Stretches of calm and of attack, for each attack.
const ROUNDS: usize = 5;

/// Ordinary callers; each asks 25 times a second, one after the other: a heartbeat, an update, a roster.
const CALLERS: usize = 8;
const PACE: Duration = Duration::from_millis(40);

#[tokio::main]
async fn main() {
    let mut figures = Map::new();
    for attack in Attack::ALL {
        let stage = Stage::set(attack.flags()).await;
        calls(stage.address, RUN).await; // what is slow only once
        if matches!(attack, Attack::Erasing) {
            stage.fill_log().await;
        }
        let mut rounds = Vec::new();
        let mut most_open = 0;
        for _ in 0..ROUNDS {
            let calm = p99(calls(stage.address, RUN).await);
            let attackers = attack.start(stage.address).await;
            let attacked = p99(calls(stage.address, RUN).await);
            most_open = most_open.max(attackers.open());
            attackers.stop().await;
            rounds.push((attacked / calm, calm, attacked));
        }
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, calm, attacked) = rounds[ROUNDS / 2];
        let (least, greatest) = (rounds[0].0, rounds[ROUNDS - 1].0);
        println!(
            "{:14} p99 {calm:6.1} ms calm, {attacked:6.1} ms attacked: ratio {ratio:5.2} ({least:.2} to {greatest:.2})",
            attack.name()
        );
        let figure = json!({
            "ratio": ratio, "ratios": [least, greatest], "p99_calm_ms": calm, "p99_attacked_ms": attacked,
            "connections": most_open
        });
        figures.insert(attack.name().into(), figure);
        stage.clear().await;
    }
    std::fs::create_dir_all("target/bench").expect("target can be written");
    let text = serde_json::to_string_pretty(&figures).expect("figures are a map");
    std::fs::write("target/bench/attack.json", text).expect("target can be written");
}

/// Milliseconds of every call of the ordinary callers, counted from when it was due.
async fn calls(address: SocketAddr, time: Duration) -> Vec<f64> {
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        callers.spawn(caller(address, n, time));
    }
    callers.join_all().await.into_iter().flatten().collect()
}

async fn caller(address: SocketAddr, n: usize, time: Duration) -> Vec<f64> {
    let (credential, session) = (token(&format!("caller-{n}")), Uuid::new_v4());
    let room = format!("/v1/rooms/calm-{}", n % 2);
    let mut wire = Wire::open(address).await;
    let own = json!({"session": session});
    assert_eq!(wire.ask(&post(&format!("{room}/join"), &credential, &own.to_string())).await, 200);
    let beat = post("/v1/heartbeats", &credential, &own.to_string());
    let look = get(&room, &credential);
    let mut taken = Vec::new();
    let begun = Instant::now();
    let mut due = tokio::time::interval(PACE);
    while begun.elapsed() < time {
        // A call that the one before held up counts from when it should have been made.
        let at = due.tick().await;
        let update = json!({"session": session, "state": taken.len()}).to_string();
        let request = match taken.len() % 3 {
            0 => beat.clone(),
            1 => post(&format!("{room}/join"), &credential, &update),
            _ => look.clone(),
        };
        assert_eq!(wire.ask(&request).await, 200, "an ordinary caller is served");
        taken.push(at.elapsed().as_secs_f64() * 1000.0);
    }
    let leave = post(&format!("{room}/leave"), &credential, &own.to_string());
    assert_eq!(wire.ask(&leave).await, 200);
    taken
}

fn p99(mut taken: Vec<f64>) -> f64 {
    taken.sort_by(f64::total_cmp);
    taken[(taken.len() * 99 / 100).min(taken.len() - 1)]
}
