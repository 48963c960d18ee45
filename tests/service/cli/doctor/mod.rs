//! `headcount doctor`: what it finds, and the sentence that mends it.

mod network;
mod setup;

use serde_json::Value;
use sqlx::ConnectOptions;

use crate::support::deployment::{Deployment, JWT_SECRET, SERVER_KEY};
use crate::support::program::{Ran, run};

/// The settings of `serve`, as it would start with this database.
pub fn settings(url: &str) -> Vec<(&str, &str)> {
    vec![
        ("HEADCOUNT_DATABASE_URL", url),
        ("HEADCOUNT_JWT_SECRET", JWT_SECRET),
        ("HEADCOUNT_SERVER_KEY", SERVER_KEY),
        ("HEADCOUNT_LIMIT_STREAMS", "500"), // as many as a shell's descriptors are enough for
    ]
}

/// What it found.
pub struct Report {
    code: i32,
    all: Value,
}

impl Report {
    pub fn of(ran: &Ran) -> Self {
        Self { code: ran.code, all: ran.json() }
    }

    /// Findings of this check and state, as `says -> mend`.
    pub fn found(&self, check: &str, state: &str) -> Vec<String> {
        let all = self.all["findings"].as_array().unwrap().iter();
        let these = all.filter(|finding| finding["check"] == check && finding["state"] == state);
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        these.map(|finding| format!("{} -> {}", text(finding, "says"), text(finding, "mend"))).collect()
    }

    /// It is broken, in this way, and this mends it.
    pub fn broken(&self, check: &str, says: &str, mend: &str) {
        let found = self.found(check, "fail");
        let told = found.iter().any(|finding| {
            let (said, mended) = finding.split_once(" -> ").unwrap();
            said.contains(says) && mended.contains(mend)
        });
        assert!(told && self.code == 1, "no {says:?} with {mend:?}: {} {:#}", self.code, self.all);
    }

    /// Nothing of this is wrong.
    pub fn fine(&self, check: &str) {
        let wrong = [self.found(check, "fail"), self.found(check, "warn")].concat();
        assert!(wrong.is_empty() && !self.found(check, "ok").is_empty(), "{check}: {:#}", self.all);
    }
}

pub async fn examine(variables: &[(&str, &str)], arguments: &[&str]) -> Report {
    let arguments = [&["doctor", "--json", "--quick"], arguments].concat();
    Report::of(&run(&arguments, variables).await)
}

pub fn service_url(deployment: &Deployment) -> String {
    deployment.database.service.to_url_lossy().to_string()
}
