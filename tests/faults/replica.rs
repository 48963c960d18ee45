//! A real `headcount serve`, always on the same port, so that clients find it again after it was ended.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::postgres::signal;
use crate::wait::until_so;

pub const JWT_SECRET: &str = "a secret of the fault tests, which is long enough";
pub const SERVER_KEY: &str = "a server key of the fault tests that is long enough";

/// From the start of a process until it serves, and from a signal to its end, at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// One replica: how it is started, and the process while it runs.
pub struct Replica {
    pub port: u16,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

/// Faster than what people get, so that a run takes seconds and not minutes.
pub const TIMES: [&str; 10] = [
    "--heartbeat",
    "1s",
    "--lease",
    "3s",
    "--hidden-lease",
    "6s",
    "--leave-grace",
    "500ms",
    "--sweep-interval",
    "200ms",
];

impl Replica {
    /// Not started yet. The log of all its lives goes to one file.
    pub fn new(name: &str, environment: Vec<(String, String)>, logs: &Path) -> Self {
        let port = free_port();
        let mut arguments = vec!["serve".to_owned(), "--listen".into(), format!("127.0.0.1:{port}")];
        arguments.extend(TIMES.map(str::to_owned));
        arguments.extend(["--workers".to_owned(), "1".into()]);
        Self { port, arguments, environment, log: logs.join(format!("{name}.log")), child: None }
    }

    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts the process and waits until it serves.
    pub async fn start(&mut self) {
        self.spawn();
        self.until_serving().await;
    }

    /// Starts the process.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        // The kernel ends the process with the thread that starts it, also when that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_headcount")]);
        command.args(&self.arguments).env_clear().env("HEADCOUNT_JWT_SECRET", JWT_SECRET);
        command.env("HEADCOUNT_SERVER_KEY", SERVER_KEY).env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().expect("setpriv of util-linux is installed"));
    }

    /// Waits until requests are answered.
    pub async fn until_serving(&mut self) {
        let livez = format!("{}/livez", self.base());
        let http = reqwest::Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
        let log = self.log.display().to_string();
        until_so(&format!("the replica serves, see {log}"), PATIENCE, async || {
            let ended = self.ended();
            assert!(ended.is_none(), "the replica ended ({ended:?}), see {log}");
            http.get(&livez).send().await.is_ok()
        })
        .await;
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// As the kernel does when memory is short.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// As an orchestrator does; gives how long the process took.
    pub async fn terminate(&mut self) -> Duration {
        signal(self.pid(), Signal::TERM);
        let from = Instant::now();
        let mut child = self.child.take().unwrap();
        until_so("the replica ends", PATIENCE, async || child.try_wait().unwrap().is_some()).await;
        from.elapsed()
    }

    /// How a process ended that should not have; none while it runs.
    pub fn ended(&mut self) -> Option<String> {
        self.child.as_mut()?.try_wait().unwrap().map(|status| status.to_string())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Free a moment ago: whoever else looks for one gets another.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
