//! `headcount serve` and `dev`: what they need to start, and the sentence when it is not there.

use std::process::Command;

use sqlx::ConnectOptions;

use crate::database::SERVICE_ROLE;
use crate::support::deployment::{JWT_SECRET, SERVER_KEY, start_with, tuning};
use crate::support::process::serve;

#[test]
fn serve_refuses_to_start_without_keys_or_with_weak_ones() {
    let run = |secret: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
        command
            .args(["serve", "--database-url", "postgres://localhost/none"])
            .env_remove("HEADCOUNT_JWT_SECRET");
        command.env("HEADCOUNT_SERVER_KEY", SERVER_KEY);
        if let Some(secret) = secret {
            command.env("HEADCOUNT_JWT_SECRET", secret);
        }
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(None).contains("HEADCOUNT_JWT_SECRET is not set"));
    assert!(run(None).contains("HEADCOUNT_JWKS_URL"));
    assert!(run(Some("short")).contains("HEADCOUNT_JWT_SECRET must be at least 32 bytes"));
}

#[test]
fn serve_reads_secrets_from_files_and_refuses_what_could_be_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (jwt, server) = (file("jwt", &format!("{JWT_SECRET}\n")), file("server", SERVER_KEY));
    let database = file("database", "postgres://localhost:1/none?sslmode=nonsense");
    let weak = file("weak", "REPLACE-with-the-output-of-openssl-rand-hex-32");
    let run = |changes: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
        command.arg("serve").env("HEADCOUNT_JWT_SECRET_FILE", &jwt);
        command.env("HEADCOUNT_SERVER_KEY_FILE", &server).env("HEADCOUNT_DATABASE_URL_FILE", &database);
        let output = command.envs(changes.iter().copied()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&[]).contains("nonsense"), "all three were read: {}", run(&[]));
    for (variable, value, told) in [
        ("HEADCOUNT_JWT_SECRET", JWT_SECRET, "--jwt-secret-file"),
        ("HEADCOUNT_SERVER_KEY", SERVER_KEY, "--server-key-file"),
        ("HEADCOUNT_DATABASE_URL", "postgres://localhost/none", "--database-url-file"),
        ("HEADCOUNT_JWT_SECRET_FILE", "/nowhere", "--jwt-secret-file"),
        ("HEADCOUNT_JWT_SECRET_FILE", &weak, "HEADCOUNT_JWT_SECRET is a placeholder"),
        ("HEADCOUNT_SERVER_KEY_FILE", &weak, "HEADCOUNT_SERVER_KEY is a placeholder"),
        ("HEADCOUNT_JWT_SECRET_FILE", &server, "HEADCOUNT_SERVER_KEY and HEADCOUNT_JWT_SECRET are the same"),
        ("HEADCOUNT_JWT_LIFETIME_MAX", "1s", "HEADCOUNT_JWT_LIFETIME_MAX"),
    ] {
        let refused = run(&[(variable, value)]);
        assert!(refused.contains(told), "{variable}: {refused}");
        assert!(!refused.contains(JWT_SECRET) && !refused.contains(SERVER_KEY), "{refused}");
    }
}

#[test]
fn a_bad_setting_names_itself() {
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_headcount")).arg("dev").args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["--lease", "20s"]).contains("HEADCOUNT_LEASE is 20s; it must be between 30s and 1h"));
    assert!(run(&["--sweep-interval", "2m"]).contains("HEADCOUNT_SWEEP_INTERVAL"));
    assert!(run(&["--heartbeat", "soon"]).contains("--heartbeat"));
    assert!(run(&["--listen", "0.0.0.0:0"]).contains("HEADCOUNT_LISTEN"));
    assert!(run(&["--rooms-default", "a*b"]).contains("--rooms-default"));
    for origin in ["https://app.example/path", "app.example", "*", "https://*.com"] {
        let told = run(&["--cors-origins", &format!("https://good.example {origin}")]);
        assert!(told.contains("--cors-origins") && told.contains(&format!(": {origin} ")), "{told}");
    }
    let told = run(&["--trusted-proxies", "10.0.0.0/8, nginx"]);
    assert!(told.contains("--trusted-proxies") && told.contains("nginx is no network"), "{told}");
}

#[test]
fn keys_come_by_https_or_from_this_machine() {
    for url in ["http://id.example/keys", "http://127.0.0.1.evil.example/", "file:///etc/keys", "keys"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
        command.args(["serve", "--database-url", "postgres://localhost/none", "--jwks-url", url]);
        let output = command.env("HEADCOUNT_SERVER_KEY", SERVER_KEY).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains("--jwks-url"), "{url}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_may_not_change_the_schema_says_who_must() {
    let deployment = start_with(0, tuning()).await;
    let owner = deployment.database.options.to_url_lossy().to_string();
    let service = deployment.database.service.to_url_lossy().to_string();
    deployment.execute("drop schema headcount cascade").await;
    let run = |arguments: &[&str], url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
        command
            .args(arguments)
            .env("HEADCOUNT_JWT_SECRET", JWT_SECRET)
            .env("HEADCOUNT_SERVER_KEY", SERVER_KEY);
        let output = command.env("DATABASE_URL", url).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (started, told) = run(&["serve", "--listen", "127.0.0.1:0"], &service);
    assert!(!started && told.contains("headcount migrate --grant-to"), "{told}");
    let (granted, told) = run(&["migrate", "--grant-to", SERVICE_ROLE], &owner);
    assert!(granted && told.contains(SERVICE_ROLE), "{told}");
    serve(&service).user("ann").join("lobby").await;
}
