//! This machine's own systemd, dpkg and file system, over a copy that is thrown away: `scripts/machine`.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::deployment::PATIENCE;

/// It ends with this value, and with whoever started it.
pub struct Machine {
    _script: Child,
    init: String,
}

impl Machine {
    /// With directories that are there inside too, each as `OUTSIDE:INSIDE`. None where this machine cannot: then it has said
    /// why.
    pub async fn boot(shared: &[String]) -> Option<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/machine")]);
        let mut script = command.args(shared).stdout(Stdio::piped()).spawn().ok()?;
        let mut lines = BufReader::new(script.stdout.take()?).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.expect("it boots in time").unwrap();
        let machine = Self { _script: script, init: first? };
        machine.run("until systemctl is-system-running --wait; do :; done").await;
        Some(machine)
    }

    /// What a shell command prints there. It must succeed.
    pub async fn run(&self, command: &str) -> String {
        let inside =
            ["-t", &self.init, "-m", "-p", "-u", "-i", "-C", "--root", "--wdns=/", "sh", "-c", command];
        let mut nsenter = Command::new("nsenter");
        nsenter.args(inside).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let output = timeout(PATIENCE * 2, nsenter.kill_on_drop(true).output()).await;
        let output = output.unwrap_or_else(|_| panic!("{command}: does not end")).unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {told}{complained}");
        told
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // TERM, not KILL: it clears up. Nobody waits for it here, in whatever runtime this is dropped.
        let pid = self._script.id().and_then(|id| rustix::process::Pid::from_raw(id.try_into().ok()?));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}
