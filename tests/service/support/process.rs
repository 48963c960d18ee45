//! Replicas in processes of their own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use headcount::auth::Rights;
use sqlx::ConnectOptions;

use crate::support::deployment::{Client, Deployment, JWT_SECRET, SERVER_KEY, start_with, token, tuning};

/// `headcount serve`, ended when dropped.
pub struct Process {
    pub child: Child,
    pub address: String,
}

pub fn serve(database_url: &str) -> Process {
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

/// One of its own, on a database of its own.
pub async fn service(settings: &[(&str, &str)], log: Stdio) -> (Deployment, Process) {
    let deployment = start_with(0, tuning()).await;
    let url = deployment.database.service.to_url_lossy().to_string();
    let process = serve_logged(&url, &[], settings, log);
    (deployment, process)
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
