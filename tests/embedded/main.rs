//! The private Postgres: what survives, what recovers by itself, and what is said when it cannot.
//!
//! Each test has a Postgres of its own in a directory of its own. As root they also show that Postgres is
//! not.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod home;

use std::{
    env, fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use headcount::store::embedded::{Durability, EmbeddedError, EmbeddedOptions, EmbeddedPostgres};
use rustix::process::{Signal, geteuid};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use home::{Home, VICTIM, is_running, kill, link_postgres, options, until, victim};

#[tokio::test]
async fn data_survives_a_restart() {
    let home = Home::new();
    let postgres = home.start().await.unwrap();
    postgres.ensure_database("headcount").await.unwrap();
    write(&postgres).await;
    postgres.stop().await.unwrap();
    assert!(!home.lock_file().exists(), "a stopped Postgres has removed its lock file");

    let postgres = home.start().await.unwrap();
    postgres.ensure_database("headcount").await.unwrap();
    assert_eq!(read(&postgres).await, "still here");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn full_durability_is_the_default_of_postgres_and_off_is_off() {
    for (durability, expected) in [(Durability::Full, "on"), (Durability::Off, "off")] {
        let home = Home::new();
        let postgres =
            EmbeddedPostgres::start(EmbeddedOptions { durability, ..home.options() }).await.unwrap();
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            assert_eq!(show(&postgres, setting).await, expected, "{setting} with {durability:?}");
        }
        postgres.stop().await.unwrap();
    }
}

#[tokio::test]
async fn only_its_user_gets_in_and_nobody_over_a_network() {
    let home = Home::new();
    let postgres = home.start().await.unwrap();
    assert_eq!(show(&postgres, "listen_addresses").await, "");
    assert_eq!(show(&postgres, "max_connections").await, "20");
    let sockets = PathBuf::from(show(&postgres, "unix_socket_directories").await);
    assert_eq!(fs::metadata(&sockets).unwrap().permissions().mode() & 0o777, 0o700);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn postgres_is_never_root() {
    let home = Home::new();
    let postgres = home.start().await.unwrap();
    let process = fs::metadata(format!("/proc/{}", postgres.postmaster_pid())).unwrap();
    assert_ne!(process.uid(), 0);
    if !geteuid().is_root() {
        assert_eq!(process.uid(), geteuid().as_raw());
    }
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn the_url_leads_to_the_same_database() {
    let home = Home::new();
    let postgres = home.start().await.unwrap();
    postgres.ensure_database("headcount").await.unwrap();
    write(&postgres).await;
    let options = PgConnectOptions::from_str(&postgres.database_url("headcount")).unwrap();
    assert_eq!(read_through(&options).await, "still here");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_long_path_gets_a_short_socket_directory_that_goes_with_it() {
    let home = Home::inside(&["deep, and with a comma", &"long".repeat(25)]);
    let postgres = home.start().await.unwrap();
    let sockets = PathBuf::from(show(&postgres, "unix_socket_directories").await);
    assert_eq!(fs::metadata(&sockets).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(sockets.as_os_str().len() < 30, "{}", sockets.display());
    postgres.stop().await.unwrap();
    assert!(!sockets.exists());
}

#[tokio::test]
async fn after_kill_9_of_the_parent_the_next_start_recovers() {
    let home = Home::new();
    let mut victim = home.victim(&env::var_os("PATH").unwrap());
    let orphan = home.ready_pid();
    write_to(&home.connect_options()).await;
    victim.kill().unwrap();
    victim.wait().unwrap();

    let postgres = home.start().await.unwrap();
    assert_ne!(postgres.postmaster_pid(), orphan);
    assert_eq!(read(&postgres).await, "still here");
    postgres.stop().await.unwrap();
}

#[test]
fn after_kill_9_of_the_parent_postgres_stops_too() {
    let home = Home::new();
    let mut victim = home.victim(&env::var_os("PATH").unwrap());
    home.ready_pid();
    victim.kill().unwrap();
    victim.wait().unwrap();
    // Which the postmaster removes last, once everything is on disk.
    until("the lock file is gone", || (!home.lock_file().exists()).then_some(()));
}

#[tokio::test]
async fn without_setpriv_the_orphan_is_stopped_by_the_next_start() {
    let home = Home::new();
    let path = tempfile::tempdir().unwrap();
    link_postgres(path.path());
    let mut victim = home.victim(path.path().as_os_str());
    let orphan = home.ready_pid();
    write_to(&home.connect_options()).await;
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(is_running(orphan), "nobody but the next start stops it");

    let postgres = home.start().await.unwrap();
    assert!(!is_running(orphan));
    assert_eq!(read(&postgres).await, "still here");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_postgres_that_is_killed_is_noticed_and_the_next_start_recovers() {
    let home = Home::new();
    let mut postgres = home.start().await.unwrap();
    postgres.ensure_database("headcount").await.unwrap();
    write(&postgres).await;
    kill(postgres.postmaster_pid(), Signal::KILL);
    let said = postgres.exited().await.to_string();
    assert!(said.contains("ended by itself (signal: 9"), "{said}");
    assert!(said.contains("postgres.log"), "{said}");
    postgres.stop().await.unwrap();

    let postgres = home.start().await.unwrap();
    assert_eq!(read(&postgres).await, "still here");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_waits_for_the_headcount_before_it_to_stop() {
    let home = Home::new();
    let first = home.start().await.unwrap();
    let (stopped, second) = tokio::join!(first.stop(), home.start());
    stopped.unwrap();
    second.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_dropped_postgres_stops() {
    let home = Home::new();
    drop(home.start().await.unwrap());
    until("the lock file is gone", || (!home.lock_file().exists()).then_some(()));
}

#[tokio::test]
async fn a_stale_lock_file_is_no_obstacle() {
    let home = Home::new();
    home.start().await.unwrap().stop().await.unwrap();
    let account = fs::metadata(home.cluster()).unwrap().uid();
    let sleeper = |seconds| Command::new("sleep").arg(seconds).uid(account).spawn().unwrap();

    // Its process is gone.
    let mut gone = sleeper("0");
    gone.wait().unwrap();
    home.start_over_the_lock_of(gone.id()).await;

    // Its process is dead and nobody has asked how it ended.
    let mut unburied = sleeper("0");
    until("it is dead", || (!is_running(unburied.id())).then_some(()));
    home.start_over_the_lock_of(unburied.id()).await;
    unburied.wait().unwrap();

    // Its number went to somebody else of the same user, as after a reboot.
    let mut stranger = sleeper("600");
    home.start_over_the_lock_of(stranger.id()).await;
    assert!(is_running(stranger.id()), "a stranger is left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_postgres_that_somebody_else_started_is_reported_and_left_alone() {
    let home = Home::new();
    let postgres = home.start().await.unwrap();
    let command = fs::read_to_string(format!("/proc/{}/cmdline", postgres.postmaster_pid())).unwrap();
    let program = Path::new(command.split('\0').next().unwrap());
    postgres.stop().await.unwrap();
    let mut theirs = home.started_by_hand(program);
    let pid = home.ready_pid();

    let error = home.start().await.unwrap_err();
    assert!(matches!(error, EmbeddedError::NotOurs { pid: found, .. } if found == pid), "{error}");
    assert!(is_running(pid));
    kill(pid, Signal::INT);
    theirs.wait().unwrap();
}

#[tokio::test]
async fn a_half_made_cluster_is_made_anew() {
    let home = Home::new();
    let half = home.dir.join("cluster.new-1");
    home.start().await.unwrap().stop().await.unwrap();
    fs::rename(home.cluster(), &half).unwrap();
    fs::remove_file(half.join("PG_VERSION")).unwrap();
    home.start().await.unwrap().stop().await.unwrap();
    assert!(home.cluster().join("PG_VERSION").exists());
    assert!(!half.exists());
}

#[tokio::test]
async fn a_failed_start_shows_the_log_and_where_it_is() {
    let home = Home::new();
    home.start().await.unwrap().stop().await.unwrap();
    fs::write(home.cluster().join("PG_VERSION"), "7\n").unwrap();
    let said = home.start().await.unwrap_err().to_string();
    assert!(said.contains("initialized by PostgreSQL version 7"), "{said}");
    assert!(said.contains(home.dir.join("postgres.log").to_str().unwrap()), "{said}");
}

#[tokio::test]
async fn a_directory_closed_to_its_user_is_named() {
    if !geteuid().is_root() {
        return; // An ordinary user runs Postgres as themselves, and nothing of theirs is closed to them.
    }
    let home = Home::inside(&["closed", "data"]);
    let closed = home.dir.parent().unwrap();
    fs::create_dir_all(&home.dir).unwrap();
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).unwrap();
    let error = home.start().await.unwrap_err();
    let EmbeddedError::NotReachable { closed: named, .. } = &error else { panic!("{error}") };
    assert_eq!(named, closed);
}

#[tokio::test]
async fn a_directory_with_files_in_it_is_not_given_away() {
    if !geteuid().is_root() {
        return; // Only root gives directories away.
    }
    let home = Home::inside(&["roots"]);
    fs::create_dir(&home.dir).unwrap();
    fs::set_permissions(&home.dir, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(home.dir.join("notes"), "").unwrap();
    let error = home.start().await.unwrap_err();
    assert!(matches!(error, EmbeddedError::NotReachable { .. }), "{error}");
    assert_eq!(fs::metadata(&home.dir).unwrap().uid(), 0);
}

#[test]
fn missing_binaries_are_one_clear_sentence() {
    let said = EmbeddedError::BinariesMissing.to_string();
    assert!(said.contains("apt-get install postgresql"), "{said}");
    assert!(!said.contains('\n') && !said.contains(". "), "{said}");

    // The variable is believed, even where another Postgres could be found.
    let home = Home::new();
    let mut headcount = victim(&home.dir);
    let output = headcount.env("HEADCOUNT_POSTGRES_BIN", "/nowhere").output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("HEADCOUNT_POSTGRES_BIN names /nowhere"), "{said}");
    assert!(!home.dir.join("postgres.log").exists(), "nothing is made before the programs are found");
}

/// Not a test but a headcount of its own, for the tests that kill one. Without its variable it does nothing.
#[tokio::test]
async fn a_headcount_to_be_killed() {
    let Some(dir) = env::var_os(VICTIM) else {
        return;
    };
    let mut postgres =
        EmbeddedPostgres::start(options(dir.into())).await.unwrap_or_else(|error| panic!("{error}"));
    postgres.ensure_database("headcount").await.unwrap();
    fs::write(Path::new(&env::var_os(VICTIM).unwrap()).join("victim-is-ready"), "").unwrap();
    panic!("{}", postgres.exited().await);
}

async fn show(postgres: &EmbeddedPostgres, setting: &str) -> String {
    let mut connection = PgConnection::connect_with(&postgres.connect_options("postgres")).await.unwrap();
    let value = sqlx::query_scalar("select current_setting($1)").bind(setting);
    value.fetch_one(&mut connection).await.unwrap()
}

async fn write(postgres: &EmbeddedPostgres) {
    write_to(&postgres.connect_options("headcount")).await;
}

/// With a commit that waits for the log, which a killed process does not lose.
async fn write_to(options: &PgConnectOptions) {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    for statement in ["set synchronous_commit = on", "create table note as select 'still here' as words"] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
}

async fn read(postgres: &EmbeddedPostgres) -> String {
    read_through(&postgres.connect_options("headcount")).await
}

async fn read_through(options: &PgConnectOptions) -> String {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    sqlx::query_scalar("select words from note").fetch_one(&mut connection).await.unwrap()
}
