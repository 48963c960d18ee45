//! The figures, one a file. Each makes what it needs and leaves nothing running.

pub mod crowd;
pub mod fanout;
pub mod heartbeats;
pub mod joins;
pub mod large;
pub mod memory;
pub mod mixed;
pub mod reach;
pub mod roster;
pub mod single;
pub mod size;
pub mod storm;
pub mod sweep;

use crate::report::Report;
use crate::stage::Stage;

/// Their names, in the order of measuring: the argument of `make bench ARGS=...` is a part of one.
pub const NAMES: [&str; 15] = [
    "heartbeats",
    "joins",
    "callers",
    "fanout_1000",
    "fanout_10000",
    "memory_1000",
    "memory_10000",
    "reach",
    "crowd",
    "large",
    "mixed",
    "sweep",
    "size",
    "roster",
    "storm",
];

/// Measures one.
pub async fn measure(name: &str, stage: &Stage, report: &mut Report) {
    match name {
        "heartbeats" => heartbeats::measure(stage, report).await,
        "joins" => joins::measure(stage, report).await,
        "callers" => joins::measure_callers(stage, report).await,
        "fanout_1000" => fanout::measure(stage, report, 1000).await,
        "fanout_10000" => fanout::measure(stage, report, 10_000).await,
        "memory_1000" => memory::measure(stage, report, 1000).await,
        "memory_10000" => memory::measure(stage, report, 10_000).await,
        "reach" => reach::measure(stage, report).await,
        "crowd" => crowd::measure(stage, report).await,
        "large" => large::measure(stage, report).await,
        "mixed" => mixed::measure(stage, report).await,
        "sweep" => sweep::measure(stage, report).await,
        "size" => size::measure(stage, report).await,
        "roster" => roster::measure(stage, report).await,
        "storm" => storm::measure(stage, report).await,
        _ => unreachable!("names come from the list"),
    }
}
