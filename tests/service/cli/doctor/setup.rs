//! `headcount doctor` finds set-ups that are broken in earnest, each with the sentence that mends it.

use std::path::Path;

use headcount::store::embedded::{Durability, EmbeddedOptions, EmbeddedPostgres};
use sqlx::{AssertSqlSafe, Executor};

use super::{examine, service_url, settings};
use crate::support::certificates::Authority;
use crate::support::deployment::{SERVER_KEY, start, start_with, tuning};
use crate::support::encrypted_postgres::Encrypted;
use crate::support::process::serve_with;
use crate::support::program::run;

#[tokio::test(flavor = "multi_thread")]
async fn a_good_set_up_has_nothing_to_mend() {
    let home = tempfile::Builder::new().prefix("hcd-").tempdir().unwrap();
    let options = EmbeddedOptions {
        data_dir: home.path().to_owned(),
        durability: Durability::Full,
        max_connections: 40,
    };
    let postgres = EmbeddedPostgres::start(options).await.unwrap();
    postgres.ensure_database("headcount").await.unwrap();
    let url = postgres.database_url("headcount");
    let process = serve_with(&url, &[]);
    process.user("ann").join("lobby").await;
    let mut variables = settings(&url);
    variables.push(("HEADCOUNT_URL", &process.address));
    let ran = run(&["doctor", "--quick"], &variables).await;
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.ends_with(" fine\n") && ran.out.contains("\n0 broken, 0 to look at, "), "{}", ran.out);
    for check in [
        "settings",
        "tokens",
        "server key",
        "database",
        "schema",
        "functions",
        "rights",
        "postgres",
        "clock",
        "listen",
        "sweep",
        "service",
        "version",
        "line",
    ] {
        assert!(ran.out.contains(&format!("ok    {check:<12} ")), "{check}: {}", ran.out);
    }
    drop(process);
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_reached_is_told_with_what_to_correct() {
    let authority = Authority::new();
    authority.issue(&["localhost"]);
    let lines =
        "hostssl all postgres 127.0.0.1/32 trust\nhost headcount,nowhere app 127.0.0.1/32 scram-sha-256\n";
    let server = Encrypted::admitting(&authority, lines).await;
    let mut owner = server.connect("").await;
    owner.execute("create role app login password 'the-password-in-it'").await.unwrap();
    let (port, stranger) = (server.port(), Authority::new());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ca = stranger.path("ca.pem");
    let good = format!("postgres://app:the-password-in-it@localhost:{port}/headcount");
    let cases = [
        (
            format!("postgres://app:a-wrong-one@localhost:{port}/headcount"),
            "does not take the password of app",
            "Correct role and password",
        ),
        (good.replace(&port.to_string(), &free.to_string()), "nobody listens", "correct host and port"),
        (good.replace("localhost", "no-such-host.invalid"), "no address is known", "Correct the host"),
        (
            good.replace("/headcount", "/nowhere"),
            "there is no database nowhere",
            "create database \"nowhere\"",
        ),
        (good.replace("/headcount", "/postgres"), "does not let app in", "pg_hba.conf"),
        (format!("{good}?sslmode=verify-full&sslrootcert={ca}"), "cannot be believed", "sslrootcert"),
        (good.replace(':', "-"), "is no address", "postgres://user:password@host:port/database"),
    ];
    for (url, says, mend) in cases {
        let report = examine(&settings(&url), &[]).await;
        report.broken("database", says, mend);
        assert!(!report.all.to_string().contains("the-password-in-it"), "{:#}", report.all);
    }
    let report = examine(&settings(&good), &[]).await;
    report.fine("database");
    report.broken("schema", "there is none", "Run `headcount migrate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_this_programs_is_told() {
    let deployment = start_with(0, tuning()).await;
    let url = service_url(&deployment);
    examine(&settings(&url), &[]).await.fine("schema");
    deployment
        .execute("insert into headcount.migrations select 9999, 'newer', now(), true, '\\x00', 0")
        .await;
    examine(&settings(&url), &[]).await.broken(
        "schema",
        "does not know migration 9999",
        "Use the newer headcount",
    );
    deployment.execute("delete from headcount.migrations where version >= 1").await;
    examine(&settings(&url), &[]).await.broken("schema", "migration", "headcount migrate --grant-to");
    deployment.execute("drop schema headcount cascade").await;
    examine(&settings(&url), &[]).await.broken("schema", "there is none", "headcount migrate --grant-to");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_another_build_are_told() {
    let deployment = start_with(0, tuning()).await;
    let url = service_url(&deployment);
    examine(&settings(&url), &[]).await.fine("functions");
    deployment.execute("update headcount.rules set checksum = 'altered'").await;
    let told = examine(&settings(&url), &[]).await.found("functions", "warn");
    assert!(told[0].contains("not those of this program"), "{told:?}");
    deployment.execute("update headcount.rules set revision = 9999").await;
    examine(&settings(&url), &[]).await.fine("functions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_lacks_a_right_is_told_which() {
    let deployment = start_with(0, tuning()).await;
    let url = service_url(&deployment);
    examine(&settings(&url), &[]).await.fine("rights");
    deployment.execute("revoke execute on function headcount.sweep from headcount_service").await;
    let report = examine(&settings(&url), &[]).await;
    report.broken(
        "rights",
        "lacks 1 of what serving needs: execute on headcount.sweep",
        "--grant-to headcount_service",
    );
    deployment.execute("revoke select on headcount.users from headcount_service").await;
    examine(&settings(&url), &[]).await.broken(
        "rights",
        "select on headcount.users",
        "--grant-to headcount_service",
    );
    deployment.execute("revoke usage on schema headcount from headcount_service").await;
    examine(&settings(&url), &[]).await.broken("schema", "may not look", "--grant-to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_what_was_answered_is_told() {
    let deployment = start_with(0, tuning()).await;
    let url = service_url(&deployment);
    // That of the tests is: everything in it is thrown away.
    let report = examine(&settings(&url), &[]).await;
    report.broken("postgres", "fsync is off", "fsync = on");
    report.broken("postgres", "full_page_writes is off", "full_page_writes = on");
    assert!(report.found("postgres", "warn")[0].contains("synchronous_commit"), "{:#}", report.all);
    let database: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&mut deployment.database.connect().await)
        .await
        .unwrap();
    let set = |setting: &str| AssertSqlSafe(format!("alter database {database} set {setting}"));
    let mut owner = deployment.database.connect().await;
    owner.execute(set("default_transaction_isolation = 'serializable'")).await.unwrap();
    owner.execute(set("default_transaction_read_only = on")).await.unwrap();
    owner.execute(set("idle_session_timeout = '1min'")).await.unwrap();
    let report = examine(&settings(&url), &[]).await;
    report.broken("postgres", "read only", "default_transaction_read_only off");
    report.broken("postgres", "serializable", "read committed");
    assert!(report.found("postgres", "warn").iter().any(|found| found.contains("idle_session_timeout = 0")));
    let mut many = settings(&url);
    many.push(("HEADCOUNT_DATABASE_CONNECTIONS", "100"));
    owner.execute(AssertSqlSafe(format!("alter database {database} connection limit 150"))).await.unwrap();
    let warned = examine(&many, &[]).await.found("postgres", "warn");
    assert!(
        warned
            .iter()
            .any(|found| found.contains("leaves 150")
                && found.contains("at 102 a replica, 2 of them need 204")),
        "{warned:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_nobody_sweeps_are_told() {
    let deployment = start_with(0, tuning()).await;
    let url = service_url(&deployment);
    deployment
        .execute("update headcount.sweep_state set last_sweep_at = clock_timestamp() - interval '1 h'")
        .await;
    examine(&settings(&url), &[]).await.fine("sweep"); // before the first start
    deployment.execute("select headcount.join('lobby', 'ann', gen_random_uuid())").await;
    let report = examine(&settings(&url), &[]).await;
    report.broken(
        "sweep",
        "the last one was 1h ago; sessions that will never end: 1",
        "Start `headcount serve`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_can_be_guessed_read_or_fetched_by_nobody_are_told() {
    let deployment = start_with(0, tuning()).await;
    let url = service_url(&deployment);
    let folder = tempfile::tempdir().unwrap();
    let (none, empty) = (folder.path().join("none.pem"), folder.path().join("empty.pem"));
    std::fs::write(&empty, "nothing").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keys_url = format!("http://{free}/jwks.json");
    let with = |name: &'static str, value: &str| {
        let mut all: Vec<(String, String)> =
            settings(&url).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        all.retain(|(other, _)| other != name);
        all.push((name.to_owned(), value.to_owned()));
        all
    };
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let cases = [
        (
            with("HEADCOUNT_JWT_SECRET", "short"),
            "tokens",
            "HEADCOUNT_JWT_SECRET must be at least 32 bytes",
            "openssl rand",
        ),
        (
            with("HEADCOUNT_SERVER_KEY", "short"),
            "server key",
            "HEADCOUNT_SERVER_KEY must be at least 32 bytes",
            "openssl rand",
        ),
        (
            with("HEADCOUNT_JWT_PUBLIC_KEY_FILE", &path(&none)),
            "token keys",
            "No such file",
            "Correct the path",
        ),
        (
            with("HEADCOUNT_JWT_PUBLIC_KEY_FILE", &path(&empty)),
            "token keys",
            "no RSA (of 2048 bits or more), P-256",
            "Put a public key into it",
        ),
        (with("HEADCOUNT_JWKS_URL", &keys_url), "token keys", "Connection refused", "JSON Web Key Set"),
        (with("HEADCOUNT_LEASE", "20s"), "settings", "HEADCOUNT_LEASE is 20s", "Correct that variable"),
    ];
    for (variables, check, says, mend) in cases {
        let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        examine(&variables, &[]).await.broken(check, says, mend);
    }
    let report = examine(&[("HEADCOUNT_DATABASE_URL", &url)], &[]).await;
    report.broken("tokens", "HEADCOUNT_JWT_SECRET is not set", "openssl rand");
    report.broken("server key", "is not set", "openssl rand");
    let mut same = settings(&url);
    same[1].1 = SERVER_KEY;
    assert!(examine(&same, &[]).await.found("tokens", "fail")[0].contains("are the same"));
    let mut many = settings(&url);
    many[3].1 = "100000000";
    assert!(examine(&many, &[]).await.found("descriptors", "warn")[0].contains("LimitNOFILE=100000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_other_keys_or_none_at_all_is_told() {
    let deployment = start().await;
    let base = deployment.server().base;
    let other = "another key that is long enough to be one";
    let url = [("HEADCOUNT_URL", base.as_str())];
    let outside = examine(&url, &[]).await;
    assert_eq!(outside.code, 0, "{:#}", outside.all);
    outside.fine("service");
    outside.fine("version");
    let report =
        examine(&[url[0], ("HEADCOUNT_SERVER_KEY", other), ("HEADCOUNT_JWT_SECRET", other)], &[]).await;
    report.broken(
        "server key",
        "does not take HEADCOUNT_SERVER_KEY",
        "to the same here and where the service runs",
    );
    report.broken(
        "tokens",
        "does not take what HEADCOUNT_JWT_SECRET signs",
        "to the same where tokens are signed",
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = examine(&[("HEADCOUNT_URL", &format!("http://{free}"))], &[]).await;
    report.broken("service", "refuses connections", "Start headcount there");
    // Another service on another database than the one that is looked at.
    let elsewhere = start().await;
    let there = service_url(&elsewhere);
    let mut variables = settings(&there);
    variables.push(url[0]);
    let report = examine(&variables, &[]).await;
    let warned = report.found("service", "warn");
    assert!(warned.len() == 1 && warned[0].contains("is not connected to the database"), "{:#}", report.all);
}
