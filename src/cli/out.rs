//! Standard output and standard error, and what may be shown there.

use std::borrow::Cow;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;
use tokio::sync::oneshot;

use super::failure::Failure;

/// Standard output. Each line is flushed, so that the reader of a pipe gets it immediately.
pub struct Out(());

impl Out {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        stdout().is_terminal()
    }

    /// Writes text unchanged.
    pub fn raw(&mut self, text: &str) -> Result<(), Failure> {
        let mut stdout = stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Writes a line for people.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.raw(&format!("{}\n", plain(text)))
    }

    /// Writes a line for programs.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?;
        self.raw(&format!("{}\n", without_controls(&text)))
    }
}

/// Returns when the reader of standard output is gone; never, if that cannot be known.
pub async fn closed() {
    let (tell, told) = oneshot::channel();
    // A thread of its own, which ends with the process: tokio waits for those that it lends.
    thread::spawn(move || {
        let stdout = stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())]; // errors and hang-ups are always reported
        while poll(&mut watched, None) == Err(Errno::INTR) {}
        if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            let _ = tell.send(()); // an error means that the receiver was dropped
        }
    });
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Writes a sentence to standard error.
pub fn note(text: &str) {
    // An error here cannot be reported anywhere.
    let _ = writeln!(stderr(), "headcount: {}", plain(text));
}

/// Text without what a terminal would obey or be misled by: control characters, and marks that turn the direction of
/// writing round. A name is whatever its user chose.
pub fn plain(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(harmful) { text.replace(harmful, "\u{fffd}").into() } else { text.into() }
}

/// Escapes the control characters that JSON leaves as they are: the last of ASCII (DEL), and those above it.
/// Terminals obey them too.
fn without_controls(json: &str) -> Cow<'_, str> {
    if !json.contains(char::is_control) {
        return json.into();
    }
    let escape = |c: char| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escape).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_a_terminal() {
        assert_eq!(plain("Ann\u{1b}[2J\u{9b}31m\r\n"), "Ann\u{fffd}[2J\u{fffd}31m\u{fffd}\u{fffd}");
        assert_eq!(plain("\u{202e}nnA"), "\u{fffd}nnA");
        assert!(matches!(plain("Zoë 山"), Cow::Borrowed("Zoë 山")));
    }

    #[test]
    fn json_stays_the_same_json_without_a_control_character() {
        let value = serde_json::json!({"name": "a\u{1b}\u{7f}\u{9b}b"});
        let text = serde_json::to_string(&value).unwrap();
        let safe = without_controls(&text);
        assert!(!safe.contains(char::is_control));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
