//! One thing that was looked at.

use serde::Serialize;

/// How it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not looked at.
    Skip,
    /// It works, and will not always, or not well.
    Warn,
    /// Broken.
    Fail,
}

/// What was found. Whatever is not as it should be has the sentence that mends it.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was seen.
    pub says: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, state: State::Ok, says: says.into(), mend: None }
    }

    /// Not looked at, and why.
    pub fn skip(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, state: State::Skip, says: says.into(), mend: None }
    }

    /// It works, and will not always.
    pub fn warn(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Warn, says: says.into(), mend: Some(mend.into()) }
    }

    /// Broken.
    pub fn fail(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Fail, says: says.into(), mend: Some(mend.into()) }
    }

    /// For people: a line, and one below it with what mends it.
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
