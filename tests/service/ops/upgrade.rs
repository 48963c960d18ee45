//! Upgrades beside people: rules are replaced while replicas of the build before serve, and old replicas on a newer schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use headcount::store::rules::Rules;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use uuid::Uuid;

use crate::database::law::assert_lawful;
use crate::ops::load::Load;
use crate::ops::older_replica::{OldReplica, Told};
use crate::ops::restart::Supervisor;
use crate::support::deployment::{Deployment, PATIENCE, start_with, tuning};

/// Callers of old replicas, and rooms.
const CALLERS: usize = 6;
const ROOMS: usize = 2;

/// Upgrades in a row.
const UPGRADES: i32 = 10;

/// Those of a build that is so many revisions newer. A function that `apply` calls has another name in each: a call that
/// was half way through the old ones would not find it.
fn rules(newer: i32) -> Rules {
    let Rules { revision, files, triggers } = Rules::of_this_build();
    let name = format!("apply_wave_{newer}");
    let renamed = |file: &&str| &*file.replace("headcount.apply_wave(", &format!("headcount.{name}(")).leak();
    let mut files: Vec<&'static str> = files.iter().map(renamed).collect();
    let drop_others = format!(
        "do $$ declare v_old regprocedure; begin for v_old in select p.oid from pg_proc p \
         where p.pronamespace = 'headcount'::regnamespace and p.proname ~ '^apply_wave' and p.proname <> '{name}' \
         loop execute 'drop function ' || v_old; end loop; end $$"
    );
    files.push(drop_others.leak());
    // As long as the gate is closed, so that calls come meanwhile.
    let triggers = format!("{triggers} select pg_sleep(0.05)").leak();
    Rules { revision: revision + newer, files, triggers }
}

/// When the rules were loaded.
async fn loaded_at(deployment: &Deployment) -> String {
    let mut connection = deployment.database.connect().await;
    sqlx::query_scalar("select loaded_at::text from headcount.rules")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_replaced_beside_old_replicas_and_their_callers_notice_nothing() {
    let deployment = start_with(0, tuning()).await;
    let replicas = deployment.database.service.clone();
    let told: &'static Told = Box::leak(Box::default());
    let mut at_work = JoinSet::new();
    for n in 0..CALLERS {
        at_work.spawn(come_and_go(replicas.clone(), told, n));
    }
    at_work.spawn(stay(replicas.clone(), told));
    at_work.spawn(watch(replicas.clone(), told));
    answered(told, 300).await;
    let since = Instant::now();
    for newer in 1..=UPGRADES {
        // Two replicas of the new build start at once.
        let (mine, theirs) = (rules(newer), rules(newer));
        let options = &deployment.database.options;
        let (one, other) = tokio::join!(
            headcount::store::migrate_to(options, &mine),
            headcount::store::migrate_to(options, &theirs)
        );
        one.and(other).unwrap();
        answered(told, 50).await;
    }
    let took = since.elapsed();
    told.stop.store(true, Ordering::Relaxed);
    let mut expected = BTreeMap::new();
    while let Some(ended) = at_work.join_next().await {
        expected.extend(ended.expect("nobody is told anything but `later`"));
    }
    let mut connection = deployment.database.connect().await;
    assert_eq!(logged(&mut connection).await, expected);
    assert_lawful(&mut connection).await;
    let (answered, busy) = (told.answered.load(Ordering::Relaxed), told.busy.load(Ordering::Relaxed));
    eprintln!("{UPGRADES} upgrades in {took:?}; {answered} answers, {busy} times `later`");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_loaded_once_and_an_older_build_leaves_newer_ones_alone() {
    let deployment = start_with(0, tuning()).await;
    let options = &deployment.database.options;
    headcount::store::migrate_to(options, &rules(1)).await.unwrap();
    let loaded = loaded_at(&deployment).await;
    for same_or_older in [rules(1), rules(0), Rules::of_this_build()] {
        headcount::store::migrate_to(options, &same_or_older).await.unwrap();
        assert_eq!(loaded_at(&deployment).await, loaded);
    }
    // A replica may look whether they are current, and load nothing.
    let service = &deployment.database.service;
    headcount::store::migrate_to(service, &rules(1)).await.unwrap();
    let refused = headcount::store::migrate_to(service, &rules(2)).await.unwrap_err();
    assert!(headcount::store::is_forbidden(&refused), "{refused}");
    // While one is written its revision stays.
    let mut edited = rules(1);
    edited.files.push("-- edited");
    headcount::store::migrate_to(options, &edited).await.unwrap();
    assert_ne!(loaded_at(&deployment).await, loaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_granted_rights_keeps_them_when_a_function_is_made_anew() {
    let deployment = start_with(0, tuning()).await;
    let mut newer = rules(1);
    newer.files.insert(0, "drop function headcount.trim(interval, integer)"); // and with it what was granted
    headcount::store::migrate_to(&deployment.database.options, &newer).await.unwrap();
    let mut service = PgConnection::connect_with(&deployment.database.service).await.unwrap();
    service.execute("select headcount.trim()").await.unwrap();
}

async fn answered(told: &Told, more: usize) {
    let goal = told.answered.load(Ordering::Relaxed) + more;
    let mut look = interval(std::time::Duration::from_millis(5));
    let looking = async {
        while told.answered.load(Ordering::Relaxed) < goal {
            look.tick().await;
        }
    };
    timeout(PATIENCE, looking).await.expect("old replicas go on answering");
}

type Expected = Vec<(String, Vec<String>)>;

async fn come_and_go(database: PgConnectOptions, told: &Told, n: usize) -> Expected {
    let mut replica = OldReplica::connect(&database, told).await;
    let (room, user) = (format!("room{}", n % ROOMS), format!("moves{n}"));
    let mut log = Vec::new();
    while replica.goes_on() {
        let session = Uuid::new_v4();
        for (op, event) in [("join", "joined"), ("update", "updated"), ("leave", "left left")] {
            assert_eq!(replica.apply(op, &room, &user, session).await, "ok");
            log.push(event.to_owned());
            assert_eq!(replica.beat(&user, session).await, op != "leave");
        }
    }
    vec![(user, log)]
}

async fn stay(database: PgConnectOptions, told: &Told) -> Expected {
    let mut replica = OldReplica::connect(&database, told).await;
    let session = Uuid::new_v4();
    assert_eq!(replica.apply("join", "quiet", "stays", session).await, "ok");
    while replica.goes_on() {
        assert!(replica.beat("stays", session).await);
        replica.upkeep(&[session]).await;
    }
    vec![("stays".to_owned(), vec!["joined".to_owned()])]
}

async fn watch(database: PgConnectOptions, told: &Told) -> Expected {
    let mut replica = OldReplica::connect(&database, told).await;
    let (epoch, mut version, _) = replica.roster("room0").await;
    while replica.goes_on() {
        let (epoch_now, head, members) = replica.roster("room0").await;
        assert_eq!(epoch_now, epoch);
        assert!(members <= CALLERS);
        version = replica.tail("room0", &epoch, version).await;
        assert!(version >= head, "what was read before is in the log");
    }
    Vec::new()
}

/// What the log says of each of them.
async fn logged(database: &mut PgConnection) -> BTreeMap<String, Vec<String>> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select user_id, concat_ws(' ', kind, reason) from headcount.events \
         order by room_id, version",
    )
    .fetch_all(database)
    .await
    .unwrap();
    let mut log = BTreeMap::<String, Vec<String>>::new();
    for (user, what) in rows {
        log.entry(user).or_default().push(what);
    }
    log
}

/// As a later release would do it: something that this build does not know, and a line that says so.
const LATER: &str = "begin; alter table headcount.users add column mood text; \
     insert into headcount.migrations (version, description, success, checksum, execution_time) \
     values (9999, 'later', true, '\\x00', 1); commit";

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_older_than_the_schema_serves_and_starts_anew() {
    let deployment = start_with(0, tuning()).await;
    let mut systemd = Supervisor::of(&deployment);
    systemd.start().await;
    let load = Load::start(&systemd.base(), "load").await;
    load.answered(100).await;
    deployment.database.connect().await.execute(LATER).await.unwrap();
    load.answered(100).await;
    systemd.stop().await;
    systemd.start().await; // rolled back
    load.answered(100).await;
    let outcome = load.end(&mut deployment.database.connect().await).await;
    assert_eq!((outcome.refused, outcome.cut), (0, 0), "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_must_wait_for_a_call_give_up_their_place_in_the_queue_and_come_again() {
    let deployment = start_with(0, tuning()).await;
    let mut somebody = deployment.database.connect().await;
    let mut holding = somebody.begin().await.unwrap();
    holding.execute("select headcount.join('room', 'ann', gen_random_uuid())").await.unwrap();
    let mut looking = deployment.database.connect().await;
    let somebody_in_the_way = async {
        let mut seen = BTreeSet::new();
        while seen.len() < 2 {
            let pids: Vec<i32> = sqlx::query_scalar("select pid from pg_locks where not granted")
                .fetch_all(&mut looking)
                .await
                .unwrap();
            seen.extend(pids);
        }
        holding.rollback().await.unwrap();
    };
    let newer = rules(1);
    let migrating = headcount::store::migrate_to(&deployment.database.options, &newer);
    let both = async { tokio::join!(migrating, somebody_in_the_way).0 };
    timeout(PATIENCE, both).await.expect("it is tried again, on another connection").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_an_unreleased_build_is_refused_with_the_way_out() {
    let deployment = start_with(0, tuning()).await;
    deployment.execute("update headcount.migrations set checksum = '\\x00' where version = 1").await;
    let url = sqlx::ConnectOptions::to_url_lossy(&deployment.database.options).to_string();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_headcount"));
    let output = command.args(["migrate", "--database-url", &url]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("migration 1"), "{told}");
    assert!(told.contains("drop schema headcount cascade"), "{told}");
}
