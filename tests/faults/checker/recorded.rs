//! What no service can be blamed for: a recording that cannot have been recorded.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::super::recording::{Recording, What};
use super::{Found, Promise};

/// Records are in the order of their times; answers have one question, frames an open stream, and ids are used once.
pub fn makes_sense(recording: &Recording, found: &mut Found) {
    let (mut asked, mut waiting) = (HashSet::new(), BTreeSet::new());
    let (mut opened, mut open) = (HashSet::new(), BTreeSet::new());
    let mut last = Duration::ZERO;
    for record in &recording.records {
        let sense = match &record.what {
            What::Asked(question) => asked.insert(question.op) && waiting.insert(question.op),
            What::Answered { op, .. } => waiting.remove(op),
            What::Opened { stream, .. } => opened.insert(*stream) && open.insert(*stream),
            What::Frame(frame) => open.contains(&frame.stream),
            What::Closed { stream } => open.remove(stream),
            What::Fault { .. } | What::Healed => true,
        };
        if !sense || record.at < last || record.at > recording.settings.rest_at {
            found.add(Promise::Recorded, record.at, "", format!("{record:?}"));
        }
        last = last.max(record.at);
    }
}
