//! Writes down what clients ask and hear, as it happens, on one monotonic clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::recording::{Asked, Edge, Outcome, Record, What};

/// Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    start: Instant,
    /// Microseconds since 1970 at `start`.
    start_us: i64,
    numbers: AtomicU64,
    records: Mutex<Vec<Record>>,
    oddities: Mutex<Vec<String>>,
}

impl Recorder {
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self(Arc::new(Inner {
            start: Instant::now(),
            start_us: i64::try_from(since.as_micros()).unwrap(),
            numbers: AtomicU64::new(1),
            records: Mutex::default(),
            oddities: Mutex::default(),
        }))
    }

    /// Time of the run.
    pub fn now(&self) -> Duration {
        self.0.start.elapsed()
    }

    /// Add this to a time of the run for the wall clock's, in microseconds.
    pub fn wall_offset_us(&self) -> i64 {
        self.0.start_us
    }

    /// A number for a request or a stream.
    pub fn number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The time is taken under the lock, so that records are in the order of their times.
    pub fn record(&self, what: What) {
        let mut records = self.0.records.lock().unwrap();
        let at = self.now();
        records.push(Record { at, what });
    }

    pub fn begin(&self, fault: &str) {
        self.record(What::Fault { name: fault.to_owned(), edge: Edge::Begin, only: None });
    }

    pub fn end(&self, fault: &str) {
        self.record(What::Fault { name: fault.to_owned(), edge: Edge::End, only: None });
    }

    pub fn healed(&self) {
        self.record(What::Healed);
    }

    /// Something that the design does not allow at all. The run fails for it.
    pub fn odd(&self, text: String) {
        self.0.oddities.lock().unwrap().push(text);
    }

    pub fn oddities(&self) -> Vec<String> {
        self.0.oddities.lock().unwrap().clone()
    }

    pub fn records(&self) -> Vec<Record> {
        self.0.records.lock().unwrap().clone()
    }

    /// Requests asked between these times, each with how it was answered and how long that took.
    pub fn answers(&self, from: Duration, to: Duration) -> Vec<(Asked, Outcome, Duration)> {
        let mut asked = std::collections::HashMap::new();
        let mut answers = Vec::new();
        for record in self.0.records.lock().unwrap().iter() {
            match &record.what {
                What::Asked(question) if record.at >= from && record.at <= to => {
                    asked.insert(question.op, (record.at, question.clone()));
                }
                What::Answered { op, outcome } => {
                    if let Some((at, question)) = asked.remove(op) {
                        answers.push((question, outcome.clone(), record.at - at));
                    }
                }
                _ => {}
            }
        }
        answers
    }
}
