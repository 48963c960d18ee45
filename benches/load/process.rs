//! Processes that are measured: started on chosen cores, looked at through `/proc`, ended with their [`Process`].
//!
//! The kernel ends them too when this program dies in any way, so nothing is left behind by a run that was killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// Where the server that is measured runs, in figures of one server core.
pub const SERVER_CORE: usize = 0;

/// Where everything else runs then: the load generator, and Postgres where there is one.
pub const OTHER_CORE: usize = 1;

/// How a process is started.
pub struct Launch {
    command: Command,
    log: Option<PathBuf>,
}

impl Launch {
    /// A program; with a core, on that core alone (where the machine has it).
    pub fn new(program: impl AsRef<OsStr>, core: Option<usize>) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(core) = core.filter(|_| cores() > 1) {
            command.args(["taskset", "-c", &core.to_string()]);
        }
        command.arg(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { command, log: None }
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn directory(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Standard error goes to a file, for when it does not start.
    pub fn log(mut self, path: &Path) -> Self {
        if let Ok(file) = std::fs::File::create(path) {
            self.command.stderr(file);
            self.log = Some(path.to_owned());
        }
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> Process {
        let child = self.command.spawn().expect("setpriv and taskset of util-linux are installed");
        Process { child }
    }

    /// Starts it, and waits for a line of its standard output that begins so; gives the rest of that line.
    pub fn until_says(mut self, prefix: &str) -> (Process, String) {
        self.command.stdout(Stdio::piped());
        let log = self.log.take();
        let mut process = self.spawn();
        let output = process.child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let rest = lines.find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
        let why = || log.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let said = rest.unwrap_or_else(|| panic!("a process ended before it said {prefix:?}: {}", why()));
        (process, said)
    }
}

/// A running process, killed when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it holds.
    pub fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
    }

    /// Time on a core so far, of all its threads.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.pid())
    }

    /// As an orchestrator does; gives how long it took to end, at most 30 s.
    pub fn terminate(mut self) -> Duration {
        let begin = std::time::Instant::now();
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM); // it may have ended already
        }
        while begin.elapsed() < Duration::from_secs(30) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        begin.elapsed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many cores this machine has for us.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Time on a core of a process and of its children that have ended.
fn cpu_of(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything: state is the first field, utime to cstime are the 12th to 15th.
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10) // USER_HZ is 100 on every Linux that one meets
}

/// Time on a core of a process and all its children, such as Postgres and its backends.
pub fn cpu_of_family(parent: u32) -> Duration {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let child = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        text.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).and_then(|p| p.parse().ok())
            == Some(parent)
    };
    cpu_of(parent) + pids.filter(child).map(cpu_of).sum::<Duration>()
}

/// Puts the calling thread on a core, or back on all of them.
pub fn pin_this_thread(core: Option<usize>) {
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    if let Some(thread) = link.file_name().and_then(OsStr::to_str) {
        pin(thread, core);
    }
}

/// Puts a process on a core, or back on all of them; what it starts from now on inherits that.
pub fn pin_process(pid: u32, core: Option<usize>) {
    pin(&pid.to_string(), core);
}

fn pin(task: &str, core: Option<usize>) {
    let all = format!("0-{}", cores() - 1);
    if cores() > 1 {
        let core = core.map_or(all, |core| core.to_string());
        let output = Command::new("taskset").args(["-cp", &core, task]).stdout(Stdio::null()).status();
        assert!(output.is_ok_and(|status| status.success()), "taskset puts {task} on core {core}");
    }
}

/// Ten thousand watchers are as many descriptors: the soft limit is raised to the hard one.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
