//! All metrics: each is defined once, with its name, labels and meaning, and a handle that records it.
//!
//! Handles are made once per process and kept in a static, so that recording takes one or two atomic instructions and
//! does not allocate. Bounded: the values of a label are listed in the [`table`], or are route patterns and error
//! codes, of which the program has a fixed number, or names of webhooks, which operators give. A label never holds a
//! value that a client sent. Durations are buffered until [`tidy`] or a scrape drains them into buckets: about 5 s of
//! them.

mod meter;
pub mod process;
pub mod spans;
mod table;
pub mod throttle;

use std::sync::LazyLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use meter::{Dynamic, Each, Kind, Metric};
pub use table::{METRICS, Meters};

/// Period of [`tidy`].
pub const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of durations, in seconds: from a heartbeat's share of a commit to more than the deadline
/// of any call.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of the buckets of batch sizes: the largest batches are 500 commands and some thousands of heartbeats.
const SIZES: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0];

struct Measures {
    meters: Meters,
    recorder: PrometheusHandle,
}

/// One recorder per process, even if a test starts several replicas in it. It is made on first use of any handle, so
/// that no handle can be older than the recorder, and record nothing.
static MEASURES: LazyLock<Measures> = LazyLock::new(|| {
    let builder = PrometheusBuilder::new()
        .set_buckets(&SIZES)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS))
        .expect("there are buckets");
    let recorder = builder.install_recorder().expect("nothing else in this process records metrics");
    METRICS.iter().for_each(Metric::describe);
    let meters = Meters::register();
    meters.build_info.with(&[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
    Measures { meters, recorder }
});

/// The handles.
pub fn meters() -> &'static Meters {
    &MEASURES.meters
}

/// All metrics, in the text format of Prometheus.
pub fn render() -> String {
    MEASURES.recorder.render()
}

/// Drains recorded durations into their buckets. Without it, and without scrapes, the buffer would grow without bound.
pub fn tidy() {
    MEASURES.recorder.run_upkeep();
}

/// Converts a count to the type of a gauge.
#[expect(clippy::cast_precision_loss, reason = "what is counted here is far below 2^52")]
pub fn number(count: usize) -> f64 {
    count as f64
}

/// The table of metrics for the documentation, as Markdown.
pub fn page() -> String {
    let mut page = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help } in METRICS {
        let labels = labels.iter().map(|(label, values)| match *values {
            [] => format!("`{label}`"),
            values => format!("`{label}`: {}", values.join(", ")),
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        page += &format!("| `{name}` | {} | {labels} | {} |\n", kind.as_str(), help.trim());
    }
    page
}
