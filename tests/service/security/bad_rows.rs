//! A row that no replica can read costs its own room, and no other. The rules let no such row in, so a superuser writes it
//! past them.

use serde_json::json;

use crate::support::deployment::{Deployment, start, start_with, tuning};
use crate::support::watcher::Frame;
use crate::wait;

/// Somebody whose id holds a line end joins `bad`, as before the rules refused that.
async fn spoil(deployment: &Deployment) {
    for statement in [
        "create table rules_before as select pg_get_functiondef('headcount.check_commands'::regproc) as text",
        "create or replace function headcount.check_commands(p_commands headcount.command[]) returns void \
         language plpgsql as 'begin end'",
        "alter table headcount.users disable trigger check_user",
        r"select headcount.join('bad', E'x\ny', '00000000-0000-4000-8000-000000000001')",
        "alter table headcount.users enable trigger check_user",
        "do $$ begin execute (select text from rules_before); end $$",
    ] {
        deployment.execute(statement).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_cannot_be_read_costs_their_own_room_only() {
    let mut tuning = tuning();
    tuning.sweep_interval = std::time::Duration::from_secs(3); // their session does not end meanwhile
    let deployment = start_with(1, tuning).await;
    let (ann, bob) = (deployment.user("ann"), deployment.user("bob"));
    let mut bad = bob.watch("bad").await;
    let mut good = bob.watch("good").await;
    let mut many = bob.watch_path("/v1/events?rooms=bad,good", None).await;
    let mut list = crate::streams::watchlists::follow(&bob, "ann").await;
    bad.until_event("snapshot").await;
    many.until_event("sync").await;
    spoil(&deployment).await;
    for watcher in [&mut bad, &mut many] {
        wait::until("told", crate::support::deployment::PATIENCE, async || {
            (watcher.until_event("sync").await.data["stale"] == json!(true)).then_some(())
        })
        .await;
    }
    ann.join("good").await;
    for watcher in [&mut good, &mut many] {
        watcher.until_members("good", &["ann"]).await;
    }
    list.until_event("online").await;
    assert_eq!(ann.join_with("bad", json!({})).await.status.as_u16(), 200, "an own answer can be read");
    let metrics = deployment.server().get("/metrics").await.ok();
    let counted = metrics.as_str().unwrap().lines().any(|line| {
        line.starts_with("headcount_unreadable_rows_total{by=\"feed\"}") && !line.ends_with(" 0")
    });
    assert!(counted, "{metrics}");

    deployment.execute(r"delete from headcount.users where user_id = E'x\ny'").await;
    for watcher in [&mut bad, &mut many] {
        watcher.until_members("bad", &["ann"]).await;
        // The `sync` that says so comes before the frame with her or after it.
        while !watcher.heard.iter().rfind(|frame| frame.event == "sync").is_some_and(is_fresh) {
            watcher.until_event("sync").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_cannot_be_read_takes_no_new_watchers_while_others_do() {
    let deployment = start().await;
    spoil(&deployment).await;
    let ann = deployment.user("ann");
    assert_eq!(ann.get("/v1/rooms/bad/events").await.problem(), (503, "unavailable"));
    ann.watch("good").await.until_event("snapshot").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_left_out_by_a_snapshot() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let mut watcher = ann.watch("bad").await;
    watcher.until_event("snapshot").await;
    deployment
        .execute(
            "do $$ begin perform headcount.join('bad', 'bob', gen_random_uuid()); \
             update headcount.events set member = '{}' where room_id = 'bad'; end $$",
        )
        .await;
    watcher.until_members("bad", &["bob"]).await;
    assert_eq!(watcher.heard.last().unwrap().event, "snapshot");
    ann.join("bad").await;
    watcher.until_members("bad", &["ann", "bob"]).await;
    assert_eq!(watcher.heard.last().unwrap().event, "diff", "and goes on from there");
}

fn is_fresh(sync: &Frame) -> bool {
    sync.data["stale"] == json!(false)
}
