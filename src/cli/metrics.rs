//! The metrics of a replica, from `/metrics`. A metric that is absent is none, not zero: older services have
//! fewer.

use std::collections::BTreeMap;

use super::client::Client;

/// The metrics of a replica: the sum of each over all its labels.
#[derive(Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the metrics of a service; there are none if it does not serve them, or not on this listener.
    pub async fn read(client: &Client) -> Self {
        client.text("/metrics").await.map_or_else(|_| Self::default(), |(text, _)| Self::parse(&text))
    }

    /// Reads the text format of Prometheus. Lines that it does not understand are left out.
    pub fn parse(text: &str) -> Self {
        let mut totals = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let value = line.rsplit_once('}').map_or(line, |(_, value)| value).split_whitespace();
            let value = if line.contains('}') { value.clone().next() } else { value.clone().nth(1) };
            if let Some(value) = value.and_then(|value| value.parse::<f64>().ok()) {
                *totals.entry(name.to_owned()).or_insert(0.0) += value;
            }
        }
        Self(totals)
    }

    /// A metric's sum; none when there is no such metric.
    pub fn total(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_over_its_labels() {
        let text = "# HELP a What\n# TYPE a counter\na{x=\"1 {\"} 2\na{x=\"2\"} 3.5 1700000000\nb 7\nbad\n\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.total("a"), Some(5.5));
        assert_eq!(metrics.total("b"), Some(7.0));
        assert_eq!(metrics.total("bad"), None);
    }
}
