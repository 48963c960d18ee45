//! Borrows the terminal. What was on it is restored on drop, however the verb ends.

use std::io::{Read, stdin};
use std::thread;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::sync::oneshot;

use crate::cli::failure::Failure;
use crate::cli::out::{Out, plain};

/// The alternate screen, without a cursor; lines that are too long are cut, not wrapped.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Rows of a terminal that does not report its size.
const ROWS: usize = 24;

/// A screen of our own.
pub struct Screen {
    /// How the terminal's input was; none where input is not a terminal.
    input: Option<Termios>,
}

impl Screen {
    /// Takes the terminal. Keys are then read one by one and not echoed. Ctrl-C stays a signal. Ctrl-Z is a
    /// no-op, because a suspended process could not restore the terminal.
    pub fn enter(out: &mut Out) -> Result<Self, Failure> {
        let input = tcgetattr(stdin()).ok();
        if let Some(before) = &input {
            let mut keys = before.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(stdin(), OptionalActions::Now, &keys)
                .map_err(|error| Failure::Failed(error.to_string()))?;
        }
        let screen = Self { input };
        out.raw(ENTER)?;
        Ok(screen)
    }

    /// Shows these lines, as many as fit.
    pub fn draw(&self, lines: &[String]) -> Result<(), Failure> {
        let rows = tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
        let rows = if rows == 0 { ROWS } else { rows };
        let shown: Vec<String> =
            lines.iter().take(rows).map(|line| format!("{}\x1b[K", plain(line))).collect();
        Out::new().raw(&format!("\x1b[H{}\x1b[J", shown.join("\r\n")))
    }

    /// Returns when somebody presses q.
    pub async fn quit(&self) {
        if self.input.is_none() {
            return std::future::pending().await;
        }
        let (tell, told) = oneshot::channel();
        // A thread of its own, which ends with the process: tokio waits for those that it lends.
        thread::spawn(move || {
            let keys = stdin().lock().bytes().map_while(Result::ok);
            if keys.into_iter().any(|key| b"qQ".contains(&key)) {
                let _ = tell.send(()); // an error: nobody waits any more
            }
        });
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where it fails, the terminal is gone.
        let _ = Out::new().raw(LEAVE);
        if let Some(before) = &self.input {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}
