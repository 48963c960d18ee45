//! The findings of `doctor`: the results of its checks.

use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::refusal::CallError;

/// The state of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not checked.
    Skip,
    /// It works now, but will not always, or not well.
    Warn,
    /// Broken.
    Fail,
}

/// The result of a check. A warning or a failure has a sentence that says how to mend it.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// The state of a finding.
    pub state: State,
    /// What was found.
    pub says: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, state: State::Ok, says: says.into(), mend: None }
    }

    /// Not checked, and why.
    pub fn skip(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, state: State::Skip, says: says.into(), mend: None }
    }

    /// It works now, but will not always.
    pub fn warn(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Warn, says: says.into(), mend: Some(mend.into()) }
    }

    /// Broken.
    pub fn fail(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Fail, says: says.into(), mend: Some(mend.into()) }
    }

    /// From a failed HTTP call, which has a text and a remedy of its own.
    pub fn of_call(check: &'static str, error: &CallError) -> Self {
        Self::fail(check, error.says(), error.mend())
    }

    /// From a failed query that should have worked.
    pub fn of_query(check: &'static str, error: &sqlx::Error) -> Self {
        Self::fail(
            check,
            format!("cannot be asked for: {error}"),
            "Mend what the reason names, and look again.",
        )
    }

    /// For people: a line, and one below it that says how to mend it.
    pub fn lines(&self) -> Vec<String> {
        let word = match self.state {
            State::Ok => "ok",
            State::Skip => "skip",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let line = format!("{word:<5} {:<12} {}", self.check, self.says);
        let mend = self.mend.iter().map(|mend| format!("{:<18} -> {mend}", ""));
        std::iter::once(line).chain(mend).collect()
    }
}

/// All findings, in the order of the checks.
pub struct Findings<'a> {
    /// All of them.
    pub all: Vec<Finding>,
    /// Prints each finding immediately; none if all are printed at the end.
    pub out: Option<&'a mut Out>,
}

impl Findings<'_> {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) -> Result<(), Failure> {
        if let Some(out) = &mut self.out {
            finding.lines().iter().try_for_each(|line| out.line(line))?;
        }
        self.all.push(finding);
        Ok(())
    }

    /// Adds findings.
    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) -> Result<(), Failure> {
        findings.into_iter().try_for_each(|finding| self.add(finding))
    }
}
