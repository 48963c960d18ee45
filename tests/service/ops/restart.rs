//! A process that is restarted under load on a socket that somebody else keeps, as systemd does; and what it tells systemd.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::ConnectOptions;
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::ops::load::Load;
use crate::support::deployment::{Client, Deployment, JWT_SECRET, PATIENCE, SERVER_KEY, start_with, tuning};
use crate::support::signing::{claims, jwk, sign};

/// Hands descriptor 3 to the process, and says whose it is: what systemd does after it has forked.
const HAND_OVER: &str = r#"exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#;

/// As much of systemd as the process can see.
pub struct Supervisor {
    socket: TcpListener,
    heard: UnixDatagram,
    folder: TempDir,
    pub variables: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Supervisor {
    /// Of a service on the deployment's database, that does not run yet.
    pub fn of(deployment: &Deployment) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let heard = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let url = deployment.database.service.to_url_lossy().to_string();
        let variables = vec![("HEADCOUNT_DATABASE_URL", url)];
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { socket, heard, folder, variables, child: None }
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.socket.local_addr().unwrap())
    }

    /// Returns when the process says that it serves.
    pub async fn start(&mut self) {
        let mut command = Command::new("sh");
        command.args(["-c", HAND_OVER, "sh", env!("CARGO_BIN_EXE_headcount"), "serve", "--workers", "2"]);
        command.args(["--listen", "127.0.0.1:1"]); // not used
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env("HEADCOUNT_JWT_SECRET", JWT_SECRET).env("HEADCOUNT_SERVER_KEY", SERVER_KEY);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::from(OwnedFd::from(self.socket.try_clone().unwrap())));
        command.stdout(Stdio::null()).kill_on_drop(true);
        self.child = Some(command.spawn().unwrap());
        self.until_told("READY=1").await;
    }

    /// Reads until it is told this.
    async fn until_told(&self, what: &str) -> String {
        let listening = async {
            let mut message = [0; 1024];
            loop {
                let length = self.heard.recv(&mut message).await.unwrap();
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if text.lines().any(|line| line.starts_with(what)) {
                    return text;
                }
            }
        };
        timeout(PATIENCE, listening).await.unwrap_or_else(|_| panic!("never told {what}"))
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(Child::id).expect("it runs");
        kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Within the time that a drain may take.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.until_told("STOPPING=1").await;
        let mut child = self.child.take().expect("it runs");
        let ended = timeout(Duration::from_secs(5), child.wait()).await.expect("it ends within 5 s");
        assert!(ended.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_the_socket_that_systemd_keeps_refuses_nobody_and_loses_nothing() {
    let deployment = start_with(0, tuning()).await;
    let mut systemd = Supervisor::of(&deployment);
    systemd.start().await;
    let load = Load::start(&systemd.base(), "load").await;
    for _ in 0..3 {
        load.answered(120).await;
        systemd.stop().await;
        systemd.start().await;
    }
    load.answered(120).await;
    let outcome = load.end(&mut deployment.database.connect().await).await;
    eprintln!("three restarts: {outcome}");
    assert_eq!((outcome.refused, outcome.cut), (0, 0), "{outcome}");
    assert!(outcome.resumed >= 6, "watchers were there throughout: {outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_and_that_it_lives_is_told_to_systemd() {
    let deployment = start_with(0, tuning()).await;
    let mut systemd = Supervisor::of(&deployment);
    systemd.variables.push(("WATCHDOG_USEC", "300000".into()));
    systemd.start().await;
    systemd.until_told("WATCHDOG=1").await;
    let told = systemd.until_told("STATUS=").await;
    assert!(told.contains("STATUS=0 watchers; the database answers"), "{told}");
    systemd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_its_database_asks_systemd_for_more_time() {
    let deployment = start_with(0, tuning()).await;
    let mut systemd = Supervisor::of(&deployment);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    systemd.variables = vec![("HEADCOUNT_DATABASE_URL", format!("postgres://postgres@{nobody}/none"))];
    let waited = timeout(Duration::from_secs(1), systemd.start()).await;
    assert!(waited.is_err(), "it must not be ready without its database");
    let told = systemd.until_told("EXTEND_TIMEOUT_USEC=").await;
    assert!(told.contains("the database is away"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_new_keys_at_once_and_ends_nothing() {
    let deployment = start_with(0, tuning()).await;
    let mut systemd = Supervisor::of(&deployment);
    let file = systemd.folder.path().join("jwks.json");
    let set = |name| serde_json::json!({"keys": [jwk(name, name)]}).to_string();
    std::fs::write(&file, set("rsa")).unwrap();
    systemd.variables.push(("HEADCOUNT_JWKS_FILE", file.display().to_string()));
    systemd.start().await;
    let signed_by = |name| Client {
        http: reqwest::Client::new(),
        base: systemd.base(),
        credential: sign(name, Some(name), &claims()),
        session: uuid::Uuid::new_v4(),
    };
    let mut watcher = signed_by("rsa").watch("lobby").await;
    watcher.until_event("snapshot").await;
    std::fs::write(&file, set("p256")).unwrap();
    systemd.signal(Signal::HUP);
    let reading = async { while signed_by("p256").get("/v1/rooms/lobby").await.status != 200 {} };
    timeout(Duration::from_secs(5), reading).await.expect("sooner than by the next look at the file");
    signed_by("p256").join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
}
