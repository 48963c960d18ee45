//! What was measured: a table for people, JSON for programs.
//!
//! Names are stable and end in their unit. A figure is the median of its runs with the least and the greatest beside
//! it; a ratio compares medians of the same run of this program, and may have a bar that it should reach.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Where a figure should be.
#[derive(Clone, Copy)]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
    None,
}

struct Entry {
    value: f64,
    range: Option<(f64, f64)>,
    bar: Bar,
}

/// Everything measured so far.
#[derive(Default)]
pub struct Report {
    order: Vec<String>,
    entries: BTreeMap<String, Entry>,
    failed: BTreeMap<String, String>,
}

impl Bar {
    fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(bar) => Some(value >= bar),
            Self::AtMost(bar) => Some(value <= bar),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bar) => format!(">= {bar}"),
            Self::AtMost(bar) => format!("<= {bar}"),
            Self::None => String::new(),
        }
    }
}

impl Report {
    /// A figure of several runs. Gives the median.
    pub fn runs(&mut self, name: &str, runs: &[f64], bar: Bar) -> f64 {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(greatest)) = (sorted.first(), sorted.last()) else { return f64::NAN };
        let value = median(&sorted);
        self.put(name, Entry { value, range: Some((*least, *greatest)), bar });
        value
    }

    /// A figure that is one number.
    pub fn value(&mut self, name: &str, value: f64, bar: Bar) {
        self.put(name, Entry { value, range: None, bar });
    }

    /// One figure as a multiple of another; nothing where one of them was not measured.
    pub fn ratio(&mut self, name: &str, of: f64, to: f64, bar: Bar) {
        if of.is_finite() && to > 0.0 {
            self.value(name, of / to, bar);
        }
    }

    /// The median of a figure measured before; not a number where it was not.
    pub fn get(&self, name: &str) -> f64 {
        self.entries.get(name).map_or(f64::NAN, |entry| entry.value)
    }

    /// A figure or a peer that could not be measured, and why.
    pub fn fail(&mut self, name: &str, why: &str) {
        self.failed.insert(name.to_owned(), why.to_owned());
    }

    fn put(&mut self, name: &str, entry: Entry) {
        if self.entries.insert(name.to_owned(), entry).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// A line a figure, in the order of measuring.
    pub fn table(&self) -> String {
        let mut text = format!("{:62} {:>12} {:>25}  {}\n", "figure", "median", "least to greatest", "bar");
        for name in &self.order {
            let Entry { value, range, bar } = &self.entries[name];
            let range = range.map_or(String::new(), |(a, b)| format!("{} to {}", short(a), short(b)));
            let verdict = bar.met(*value).map_or("", |met| if met { "met" } else { "MISSED" });
            let line = format!("{name:62} {:>12} {range:>25}  {} {verdict}", short(*value), bar.text());
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for (name, why) in &self.failed {
            text.push_str(&format!("{name}: not measured: {why}\n"));
        }
        text
    }

    /// Writes the summary; `about` says on what and how it was measured.
    pub fn write(&self, path: &Path, about: &Value) -> std::io::Result<()> {
        let figures: Map<String, Value> =
            self.order.iter().map(|name| (name.clone(), self.json(name))).collect();
        let summary = json!({"about": about, "figures": figures, "not_measured": self.failed});
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(path, serde_json::to_string_pretty(&summary)? + "\n")
    }

    fn json(&self, name: &str) -> Value {
        let Entry { value, range, bar } = &self.entries[name];
        let mut object = json!({"median": rounded(*value)});
        if let Some((least, greatest)) = range {
            object["least"] = json!(rounded(*least));
            object["greatest"] = json!(rounded(*greatest));
        }
        if let Some(met) = bar.met(*value) {
            object["bar"] = json!(bar.text());
            object["met"] = json!(met);
        }
        object
    }
}

/// Of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// The value that this share of them does not exceed.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Four digits that count.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// A number as people read it.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => format!("{:.1} k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
