//! Heartbeats that come at the very end of a lease, while sweepers look: alive means alive.

use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::s;
use crate::fleet::Size;
use crate::replica::SERVER_KEY;
use crate::run::{Plan, Run, all, scenario};
use crate::wait::elapse;

/// Sessions in a round. They come spread over half a second, and beat when their lease of 3 s runs out.
const SESSIONS: usize = 500;

/// A sweep that has looked takes a while to lock the rooms: time enough for a heartbeat between its look and its deed.
const SLOW: &str = "alter function headcount.lock_expired rename to lock_expired_at_once; \
     create function headcount.lock_expired(p_sessions uuid[], p_from timestamptz, p_now timestamptz, p_held text[], \
         p_busy text[]) returns uuid[] language plpgsql as $$ begin \
         perform pg_sleep(0.1); \
         return headcount.lock_expired_at_once(p_sessions, p_from, p_now, p_held, p_busy); end $$";

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_at_the_last_moment() {
    let mut plan = Plan::new("last_moment");
    plan.size = Size { rooms: 2, wanderers: 0, stayers: 4, watchers: 2 };
    scenario(plan, async |run: &mut Run| {
        run.database.execute(SLOW).await;
        let mut random = StdRng::seed_from_u64(run.seed);
        let (mut alive, mut gone) = (0, 0);
        for round in 0..if all() { 6 } else { 2 } {
            let from = Instant::now();
            let late = (0..SESSIONS).map(|_| random.random_range(0..60));
            let late: Vec<u64> = late.collect();
            let answers = join_all(late.iter().enumerate().map(|(n, late)| come_and_beat(run, from, round, n, *late))).await;
            let present: Vec<Uuid> = sqlx::query_scalar("select session_id from headcount.presence")
                .fetch_all(&mut run.database.connect().await)
                .await
                .unwrap();
            for (session, state) in answers.into_iter().flatten() {
                match state.as_str() {
                    "alive" => assert!(present.contains(&session), "P7: {session} was told that it lives"),
                    _ => gone += 1,
                }
                alive += u64::from(state == "alive");
            }
        }
        assert!(alive > 0, "some heartbeat was answered");
        run.measure("alive", alive);
        run.measure("gone", gone);
        // The crowd is not in the recording: what is left of it goes before the checker looks.
        let left = "select count(*) from headcount.presence where user_id like 'crowd%'";
        run.database.until("the crowd is swept", s(60), left, |n| n == 0).await;
        run.database.lawful().await;
        run.database
            .execute("delete from headcount.events where room_id like 'crowd%'; delete from headcount.rooms where room_id like 'crowd%'")
            .await;
    })
    .await;
}

/// A session and what its heartbeat was answered; none when the join or the heartbeat was refused by back-pressure (503),
/// as happens on a busy machine: then the service has promised nothing.
async fn come_and_beat(run: &Run, from: Instant, round: u64, n: usize, late: u64) -> Option<(Uuid, String)> {
    let (session, base) = (Uuid::new_v4(), &run.fleet.world.bases[n % 2]);
    elapse((from + Duration::from_millis(n as u64)).saturating_duration_since(Instant::now())).await;
    let body = json!({"user": format!("crowd{round}_{n}"), "session": session});
    let join =
        run.fleet.world.http.post(format!("{base}/v1/rooms/crowd{}/join", n % 20)).bearer_auth(SERVER_KEY);
    answered(join.json(&body).send().await.unwrap())?;
    elapse(Duration::from_millis(2980 + late)).await;
    let beat = run.fleet.world.http.post(format!("{base}/v1/heartbeats")).bearer_auth(SERVER_KEY);
    let answer = answered(beat.json(&json!({"session": session})).send().await.unwrap())?;
    let answer: Value = answer.json().await.unwrap();
    Some((session, answer["sessions"][0]["state"].as_str().unwrap().to_owned()))
}

/// Fails on any error but 503.
fn answered(answer: Response) -> Option<Response> {
    let refused = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
    (!refused).then(|| answer.error_for_status().unwrap())
}
