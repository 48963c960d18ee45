//! **P2** You read your writes: a roster or stream opened after the answer, on any replica, is at or past it.
//!
//! While things break: `tests/faults/checker/reads.rs`.

use headcount::settings::Switch;

use crate::streams::watchlists::{follow, user};
use crate::support::deployment::{start_with, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_roster_or_stream_opened_after_the_ack_is_at_or_past_it() {
    let mut tuning = tuning();
    tuning.listener = Switch::Off; // the other replica has not heard of it
    let deployment = start_with(2, tuning).await;
    let _keeps_the_room_known = deployment.user_at(1, "eve").watch("lobby").await.next().await;
    for n in 0..20 {
        let ann = deployment.user_at(0, &format!("u{n:02}"));
        ann.join("lobby").await;
        let bob = deployment.user_at(1, "bob");
        assert_eq!(bob.roster("lobby").await["count"], n + 1);
        let first = bob.watch("lobby").await.next().await.unwrap();
        assert_eq!(first.data["count"], n + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_list_opened_after_the_ack_knows_of_it() {
    let mut tuning = tuning();
    tuning.listener = Switch::Off; // the other replica has not heard of it
    let deployment = start_with(2, tuning).await;
    let ann = deployment.user_at(0, "ann");
    let eve = deployment.user_at(1, "eve");
    let mut kept = Vec::new(); // so that the other replica knows her already
    for n in 0..20 {
        let coming = n % 2 == 0;
        if coming {
            ann.join("lobby").await
        } else {
            ann.leave("lobby").await
        };
        let mut watcher = follow(&eve, "ann").await;
        assert_eq!(user(&watcher.next().await.unwrap().data, "ann")["online"], coming);
        kept.push(watcher);
    }
}
