//! One entry of a clean recording is dropped, doubled, swapped, moved in time or forged, and the checker must say so.
//!
//! Some mutations make another lawful recording; they are left out where they are, each with its reason:
//! - an answer that is dropped is one that was lost: allowed, and it must not alarm;
//! - a heartbeat or an update that changed nothing leaves no trace but its answer;
//! - a frame that is dropped is a frame folded into the next one, if that names the same users or lists everybody,
//!   and it is a stream cut a little earlier if none follows; a `sync` says nothing new;
//! - neighbours in the log that are closer in time than the clocks are exact may have been the other way round.

mod answers;
mod at_rest;
mod frames;
mod log;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::checker::check;
use crate::recording::{Asked, Frame, Outcome, Recording, What};
use crate::simulator::{Plan, simulate};

/// Clean recordings to mutate. Simulated once: it takes longer than the checking.
pub fn clean() -> &'static [Recording] {
    static CLEAN: OnceLock<Vec<Recording>> = OnceLock::new();
    CLEAN.get_or_init(|| (0..6).map(|seed| simulate(Plan::calm(seed))).collect())
}

/// A recording and two choices in it.
pub fn choices() -> impl Strategy<Value = (Recording, Index, Index)> {
    (0..clean().len(), any::<Index>(), any::<Index>())
        .prop_map(|(n, one, other)| (clean()[n].clone(), one, other))
}

/// Changes a recording and tells what it changed; none when there was nothing to change.
pub type Mutate = fn(&mut Recording, Index, Index) -> Option<String>;

/// A failure names its seed and its entry; no file is needed to find it again.
pub fn config() -> ProptestConfig {
    ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() }
}

pub fn is_found(recording: &Recording, mutation: &str) -> Result<(), TestCaseError> {
    prop_assert!(!check(recording).violations.is_empty(), "nobody noticed: {}", mutation);
    Ok(())
}

/// Chooses among what fits; none when nothing does, and then another recording is tried.
pub fn choose(pick: Index, fits: impl Iterator<Item = usize>) -> Option<usize> {
    let fits: Vec<usize> = fits.collect();
    (!fits.is_empty()).then(|| fits[pick.index(fits.len())])
}

/// A request and its answer, as far as there is one.
pub struct Request<'a> {
    pub asked: &'a Asked,
    pub from: Duration,
    pub to: Duration,
    pub outcome: &'a Outcome,
}

/// All requests that fit, in the order of asking.
pub fn requests<'a>(recording: &'a Recording, fits: impl Fn(&Asked) -> bool) -> Vec<Request<'a>> {
    let answers: HashMap<u64, (Duration, &Outcome)> = recording
        .records
        .iter()
        .filter_map(|record| match &record.what {
            What::Answered { op, outcome } => Some((*op, (record.at, outcome))),
            _ => None,
        })
        .collect();
    let asked = recording.records.iter().filter_map(|record| match &record.what {
        What::Asked(asked) if fits(asked) => Some((record.at, asked)),
        _ => None,
    });
    let answered = asked.map(|(from, asked)| {
        let (to, outcome) = answers.get(&asked.op).copied().unwrap_or((from, &Outcome::Lost));
        Request { asked, from, to, outcome }
    });
    answered.collect()
}

/// Where the frames are that fit.
pub fn frames<'a>(
    recording: &'a Recording,
    fits: impl Fn(&Frame) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    let fits = move |n: &usize| matches!(&recording.records[*n].what, What::Frame(frame) if fits(frame));
    (0..recording.records.len()).filter(fits)
}

/// Where the answers are that fit.
pub fn answers<'a>(
    recording: &'a Recording,
    fits: impl Fn(&Outcome) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    let fits = move |n: &usize| matches!(&recording.records[*n].what, What::Answered { outcome, .. } if fits(outcome));
    (0..recording.records.len()).filter(fits)
}

pub fn frame(recording: &mut Recording, n: usize) -> &mut Frame {
    let What::Frame(frame) = &mut recording.records[n].what else {
        unreachable!("it was chosen among frames")
    };
    frame
}

pub fn outcome(recording: &mut Recording, n: usize) -> &mut Outcome {
    let What::Answered { outcome, .. } = &mut recording.records[n].what else {
        unreachable!("it was chosen among answers")
    };
    outcome
}

/// A claim of the form: whatever is chosen, the mutation is found.
macro_rules! mutations {
    ($($(#[$meta:meta])* $name:ident: $mutate:expr;)*) => {
        proptest::proptest! {
            #![proptest_config(super::config())]
            $(
                $(#[$meta])*
                #[test]
                fn $name((mut recording, one, other) in super::choices()) {
                    let mutate: super::Mutate = $mutate;
                    let mutation = mutate(&mut recording, one, other);
                    proptest::prop_assume!(mutation.is_some());
                    super::is_found(&recording, &mutation.unwrap())?;
                }
            )*
        }
    };
}
pub(crate) use mutations;
