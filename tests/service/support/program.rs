//! The program as a user runs it: with arguments and variables, to its end.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::deployment::{Client, PATIENCE, SERVER_KEY};

/// How a run of the program ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }

    pub fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }
}

/// Nothing of the environment is meant for it, but for what the test says.
pub fn program(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEADCOUNT_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs it to its end, while the replicas of this process go on.
pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = tokio::process::Command::from(program(arguments, variables));
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output());
    let output = output.await.expect("it ends in time").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// As an application's server asks this service.
pub async fn ask(server: &Client, arguments: &[&str]) -> Ran {
    run(arguments, &[("HEADCOUNT_URL", &server.base), ("HEADCOUNT_SERVER_KEY", SERVER_KEY)]).await
}
