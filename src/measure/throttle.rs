//! At most one log line a second of each kind, however often it happens: when the database is away every call fails, and
//! a line for each would fill the disk. The metrics count every failure; the next line says how many it stands for.
//!
//! Bounded: kinds are words of the program.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

/// The second in which a kind was last logged, and how often it has happened since without a line.
#[derive(Default)]
struct Window {
    second: Option<u64>,
    suppressed: u64,
}

impl Window {
    /// Whether to log now: how many were left out before; none when this one is left out too.
    fn admit(&mut self, second: u64) -> Option<u64> {
        if self.second == Some(second) {
            self.suppressed += 1;
            return None;
        }
        self.second = Some(second);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Whether a line of this kind may be logged now. The number is of those that were left out before it.
pub fn admit(kind: &'static str, code: &'static str) -> Option<u64> {
    static WINDOWS: LazyLock<Mutex<HashMap<(&str, &str), Window>>> = LazyLock::new(Mutex::default);
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
    windows.entry((kind, code)).or_default().admit(BEGUN.elapsed().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_says_how_many_it_stands_for() {
        let mut window = Window::default();
        assert_eq!(window.admit(7), Some(0));
        assert_eq!((1..1000).filter_map(|_| window.admit(7)).count(), 0);
        assert_eq!(window.admit(8), Some(999));
        assert_eq!(window.admit(8), None);
        assert_eq!(window.admit(20), Some(1));
        assert_eq!(window.admit(21), Some(0));
    }

    #[test]
    fn kinds_and_codes_are_counted_apart() {
        assert_eq!(admit("a test", "one"), Some(0));
        assert_eq!(admit("a test", "two"), Some(0));
        assert_eq!(admit("another test", "one"), Some(0));
    }
}
