//! Settings of the export of traces.

use clap::Args;
use hyper::Uri;

use super::SettingError;

/// Where traces go.
#[derive(Args, Debug, Clone)]
pub struct TraceSettings {
    /// OpenTelemetry collector to send traces to, by OTLP over HTTP, such as `http://127.0.0.1:4318`; none are made
    /// without
    #[arg(long, env = "HEADCOUNT_OTLP_ENDPOINT", value_parser = collector)]
    pub otlp_endpoint: Option<Uri>,
    /// Share of the requests that are traced, of those that bring no `traceparent`; with one, it decides [0 to 1]
    #[arg(long, env = "HEADCOUNT_OTLP_SAMPLE", default_value = "0.01")]
    pub otlp_sample: f64,
}

impl TraceSettings {
    pub(super) fn check(&self) -> Result<(), SettingError> {
        if (0.0..=1.0).contains(&self.otlp_sample) {
            return Ok(());
        }
        Err(SettingError(format!(
            "HEADCOUNT_OTLP_SAMPLE is {}; it must be between 0 and 1",
            self.otlp_sample
        )))
    }
}

fn collector(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
    match (url.scheme_str(), url.query()) {
        (Some("http" | "https"), None) => Ok(url),
        _ => Err("an http: or https: address of a collector".into()),
    }
}
