//! A metric's description, and the handles that record it.

use metrics::{Counter, Gauge, Histogram, Label};

/// Type of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only increases.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// A distribution of values, in buckets.
    Histogram,
}

impl Kind {
    /// Its name in Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels, each with its values. The list is empty for values that are too many to list.
pub type Labels = &'static [(&'static str, &'static [&'static str])];

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The labels that distinguish its series.
    pub labels: Labels,
    /// Its meaning, as in the HELP line.
    pub help: &'static str,
}

impl Metric {
    pub(super) fn describe(&self) {
        let help = self.help.trim();
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, help),
            Kind::Gauge => metrics::describe_gauge!(self.name, help),
            Kind::Histogram => metrics::describe_histogram!(self.name, help),
        }
    }
}

/// The handle of one series.
pub trait Series: Sized {
    /// Its type.
    const KIND: Kind;

    /// The handle of the series with these labels. Registers the series if it is new.
    fn series(name: &'static str, labels: Vec<Label>) -> Self;
}

impl Series for Counter {
    const KIND: Kind = Kind::Counter;

    fn series(name: &'static str, labels: Vec<Label>) -> Self {
        metrics::counter!(name, labels)
    }
}

impl Series for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn series(name: &'static str, labels: Vec<Label>) -> Self {
        metrics::gauge!(name, labels)
    }
}

impl Series for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn series(name: &'static str, labels: Vec<Label>) -> Self {
        metrics::histogram!(name, labels)
    }
}

/// The handle that records a metric.
pub trait Meter {
    /// Its type.
    const KIND: Kind;

    /// Registers the series that are known beforehand, so that they are exported as 0.
    fn register(name: &'static str, labels: Labels) -> Self;
}

impl<S: Series> Meter for S {
    const KIND: Kind = S::KIND;

    fn register(name: &'static str, _: Labels) -> Self {
        S::series(name, Vec::new())
    }
}

/// A series for each value of one label.
pub struct Each<S> {
    values: &'static [&'static str],
    series: Vec<S>,
}

impl<S> Each<S> {
    /// The series of a label value; none for a value that is not in the table.
    pub fn of(&self, value: &str) -> Option<&S> {
        let index = self.values.iter().position(|known| *known == value);
        debug_assert!(index.is_some(), "{value} is not in the table of metrics");
        self.series.get(index?)
    }
}

impl Each<Counter> {
    /// Increments a counter.
    pub fn count(&self, value: &str, by: u64) {
        if let Some(counter) = self.of(value) {
            counter.increment(by);
        }
    }
}

impl Each<Gauge> {
    /// Sets a gauge.
    pub fn set(&self, value: &str, now: f64) {
        if let Some(gauge) = self.of(value) {
            gauge.set(now);
        }
    }
}

impl<S: Series> Meter for Each<S> {
    const KIND: Kind = S::KIND;

    fn register(name: &'static str, labels: Labels) -> Self {
        let (label, values) = labels.first().copied().unwrap_or(("", &[]));
        let series = values.iter().map(|value| S::series(name, vec![Label::from_static_parts(label, value)]));
        Self { values, series: series.collect() }
    }
}

/// Series whose label values are known only at run time. Making a handle allocates, so a caller should cache it.
pub struct Dynamic<S> {
    name: &'static str,
    series: std::marker::PhantomData<fn() -> S>,
}

impl<S: Series> Dynamic<S> {
    /// The series with these labels.
    pub fn with(&self, labels: &[(&'static str, &str)]) -> S {
        S::series(
            self.name,
            labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned())).collect(),
        )
    }
}

impl<S: Series> Meter for Dynamic<S> {
    const KIND: Kind = S::KIND;

    fn register(name: &'static str, _: Labels) -> Self {
        Self { name, series: std::marker::PhantomData }
    }
}
