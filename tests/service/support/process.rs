//! Real processes: what the command line does.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use sqlx::ConnectOptions;

use crate::database::SERVICE_ROLE;
use crate::support::deployment::{Client, JWT_SECRET, SERVER_KEY, start_with, token, tuning};
use headcount::auth::Rights;

/// `headcount serve`, ended when dropped.
pub struct Process {
    pub child: Child,
    pub address: String,
}

fn serve(database_url: &str) -> Process {
    serve_with(database_url, &[])
}

pub fn serve_with(database_url: &str, arguments: &[&str]) -> Process {
    serve_logged(database_url, arguments, &[], Stdio::inherit())
}

/// With these variables too, and with its log there.
pub fn serve_logged(
    database_url: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
    log: Stdio,
) -> Process {
    let anywhere: &[&str] = if arguments.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
    let mut child = Command::new(env!("CARGO_BIN_EXE_headcount"))
        .arg("serve")
        .args(anywhere)
        .args(arguments)
        .env("DATABASE_URL", database_url)
        .env("HEADCOUNT_JWT_SECRET", JWT_SECRET)
        .env("HEADCOUNT_SERVER_KEY", SERVER_KEY)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.find_map(|line| line.unwrap().strip_prefix("headcount ready on ").map(str::to_owned));
    Process { child, address: ready.expect("it says when it is ready") }
}

impl Process {
    pub fn user(&self, id: &str) -> Client {
        self.caller(token(id, Rights::everywhere()))
    }

    pub fn server(&self) -> Client {
        self.caller(SERVER_KEY.to_owned())
    }

    fn caller(&self, credential: String) -> Client {
        let base = self.address.clone();
        Client { http: reqwest::Client::new(), base, credential, session: uuid::Uuid::new_v4() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_serve_processes_on_one_database_show_each_others_joins() {
    let deployment = start_with(0, tuning()).await;
    let url = deployment.database.service.to_url_lossy().to_string();
    let (here, there) = (serve(&url), serve(&url));
    let mut watcher = there.user("bob").watch("lobby").await;
    watcher.until_event("snapshot").await;
    let ann = here.user("ann");
    ann.join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    drop(here); // killed: that is no leave
    let again = Client { base: there.address.clone(), ..ann };
    assert_eq!(again.beat(json!({})).await, "alive");
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}

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
