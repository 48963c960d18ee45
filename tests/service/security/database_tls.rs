//! TLS to Postgres: `sslmode=verify-full` goes to the server that its authority vouches for, and to no other.

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::support::certificates::Authority;
use crate::support::deployment::PATIENCE;
use crate::support::encrypted_postgres::Encrypted;
use crate::support::process::serve_with;
use crate::wait::until_so;

async fn refused(url: &str) -> String {
    let options: PgConnectOptions = url.parse().unwrap();
    PgConnection::connect_with(&options).await.expect_err("it must not connect").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_full_takes_the_right_postgres_and_no_other() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.issue(&["localhost"]);
    let server = Encrypted::start(&authority).await;
    let parameters = format!("sslmode=verify-full&sslrootcert={}", authority.path("ca.pem"));
    let good = server.url(&parameters);
    let mut connection = server.connect(&parameters).await;
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert!(sqlx::query_scalar::<_, bool>(encrypted).fetch_one(&mut connection).await.unwrap());

    let wrong = server.url(&format!("sslmode=verify-full&sslrootcert={}", stranger.path("ca.pem")));
    assert!(refused(&wrong).await.contains("certificate"), "{}", refused(&wrong).await);
    let elsewhere = good.replace("@localhost", "@127.0.0.1");
    assert!(refused(&elsewhere).await.contains("certificate"), "{}", refused(&elsewhere).await);

    // The whole service, with all its connections.
    let process = serve_with(&good, &[]);
    let ann = process.user("ann");
    let mut watcher = ann.watch("lobby").await;
    ann.join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    let plain = "select count(*) from pg_stat_activity a join pg_stat_ssl s using (pid) \
         where application_name like 'headcount%' and not ssl";
    assert_eq!(sqlx::query_scalar::<_, i64>(plain).fetch_one(&mut connection).await.unwrap(), 0);
    let listens = "select count(*) from pg_stat_activity where application_name like 'headcount-listener %'";
    let look = async || sqlx::query_scalar::<_, i64>(listens).fetch_one(&mut connection).await.unwrap() == 1;
    until_so("it listens", PATIENCE, look).await;
}
