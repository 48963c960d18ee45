//! Upgrades beside people: migrations while replicas of the release before serve, and old replicas on a newer schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use uuid::Uuid;

use crate::database::SERVICE_ROLE;
use crate::database::law::assert_lawful;
use crate::ops::first_release::{OldReplica, Told};
use crate::ops::load::Load;
use crate::ops::restart::Supervisor;
use crate::support::deployment::{Deployment, PATIENCE, start_with, tuning};

/// The newest migration of the first release.
const FIRST_RELEASE: i64 = 6;

/// Callers of old replicas, and rooms.
const CALLERS: usize = 6;
const ROOMS: usize = 2;

/// Members who were there before, so that there is something to migrate.
const CROWD: usize = 300;

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name("headcount.migrations");
    migrator
}

/// An empty database of the schema as of a migration.
async fn schema_at(deployment: &Deployment, version: i64) {
    let mut owner = deployment.database.connect().await;
    owner.execute("drop schema headcount cascade; create schema headcount").await.unwrap();
    migrator().run_to(version, &mut owner).await.unwrap();
    if version >= FIRST_RELEASE {
        headcount::store::grant(&deployment.database.options, SERVICE_ROLE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_since_the_first_release_runs_beside_old_replicas_and_their_callers_notice_nothing() {
    let versions: Vec<i64> = migrator().iter().map(|migration| migration.version).collect();
    let newest = *versions.last().unwrap();
    let mut olds: Vec<i64> = versions.into_iter().filter(|v| (FIRST_RELEASE..newest).contains(v)).collect();
    if olds.is_empty() {
        olds.push(FIRST_RELEASE - 1); // there was only one release so far: its last migration stands for the next one's
    }
    let deployment = start_with(0, tuning()).await;
    for old in olds {
        schema_at(&deployment, old).await;
        let database = &deployment.database;
        let replicas = if old < FIRST_RELEASE { &database.options } else { &database.service };
        upgrade_beside(old, replicas.clone(), &deployment).await;
    }
}

async fn upgrade_beside(old: i64, replicas: PgConnectOptions, deployment: &Deployment) {
    let told: &'static Told = Box::leak(Box::default());
    let mut before = OldReplica::connect(&replicas, told).await;
    for n in 0..CROWD {
        before.apply("join", "crowd", &format!("crowd{n}"), Uuid::new_v4()).await;
    }
    let mut at_work = JoinSet::new();
    for n in 0..CALLERS {
        at_work.spawn(come_and_go(replicas.clone(), told, n));
    }
    at_work.spawn(stay(replicas.clone(), told));
    at_work.spawn(watch(replicas.clone(), told));
    answered(told, 300).await;
    let since = Instant::now();
    headcount::store::migrate(&deployment.database.options).await.unwrap();
    let took = since.elapsed();
    answered(told, 300).await; // before the role is granted what is new: old replicas need nothing new
    headcount::store::grant(&deployment.database.options, SERVICE_ROLE).await.unwrap();
    answered(told, 300).await;
    told.stop.store(true, Ordering::Relaxed);
    let mut expected = BTreeMap::new();
    while let Some(ended) = at_work.join_next().await {
        expected.extend(ended.expect("nobody is told anything but `later`"));
    }
    let mut connection = deployment.database.connect().await;
    assert_eq!(logged(&mut connection).await, expected);
    assert_lawful(&mut connection).await;
    let (answered, busy) = (told.answered.load(Ordering::Relaxed), told.busy.load(Ordering::Relaxed));
    eprintln!("from {old}: migrated in {took:?}; {answered} answers, {busy} times `later`");
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
        "select user_id, concat_ws(' ', kind, reason) from headcount.events where room_id <> 'crowd' \
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
async fn a_migration_that_must_wait_gives_up_its_place_in_the_queue_and_comes_again() {
    let deployment = start_with(0, tuning()).await;
    schema_at(&deployment, FIRST_RELEASE - 1).await;
    let mut somebody = deployment.database.connect().await;
    let mut holding = somebody.begin().await.unwrap();
    holding.execute("alter function headcount.trim cost 200").await.unwrap(); // which the next migration alters too
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
    let migrating = headcount::store::migrate(&deployment.database.options);
    let both = async { tokio::join!(migrating, somebody_in_the_way).0 };
    timeout(PATIENCE, both).await.expect("it is tried again, on another connection").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_an_unreleased_build_is_refused_with_the_way_out() {
    let deployment = start_with(0, tuning()).await;
    deployment.execute("update headcount.migrations set checksum = '\\x00' where version = 3").await;
    let url = sqlx::ConnectOptions::to_url_lossy(&deployment.database.options).to_string();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_headcount"));
    let output = command.args(["migrate", "--database-url", &url]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("migration 3"), "{told}");
    assert!(told.contains("drop schema headcount cascade"), "{told}");
}
