//! Log lines to standard error, and traces to an OpenTelemetry collector if one is set.
//!
//! Bounded: the queue of spans to the collector holds 2048; further spans are dropped, so there is no back-pressure.

pub mod otlp;

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{EnvFilter, FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::measure::spans;
use crate::settings::{LogFormat, Tuning};

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// The exporter, which must be flushed at the end.
pub struct Logs {
    traces: Option<SdkTracerProvider>,
}

/// Starts logging, and exports traces if the settings say so. Call it once per process.
pub fn start(tuning: &Tuning) -> Result<Logs, otlp::ExportError> {
    let traces = tuning.traces.otlp_endpoint.as_ref().map(otlp::provider).transpose()?;
    let mut layers = vec![lines(tuning)];
    if let Some(provider) = &traces {
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("headcount"));
        let layer =
            layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
        layers
            .push(layer.with_filter(Targets::new().with_target(spans::TARGET, tracing::Level::INFO)).boxed());
        spans::export(tuning.traces.otlp_sample);
    }
    tracing_subscriber::registry().with(layers).init();
    Ok(Logs { traces })
}

fn lines(tuning: &Tuning) -> Boxed {
    // Clients that send garbage must not fill the log: actix reports each malformed request as an error.
    let filter = EnvFilter::new(format!("actix_http=off,{}", tuning.log));
    // Spans go to the collector only. Log lines name their request themselves.
    let filter = filter.and(filter_fn(|metadata| metadata.target() != spans::TARGET));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match tuning.log_format {
        LogFormat::Pretty => lines.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    }
}

impl Logs {
    /// Drains the queue of spans, for at most [`otlp::SEND_MAX`].
    pub async fn stop(self) {
        let Some(traces) = self.traces else { return };
        let stopping = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(otlp::SEND_MAX));
        if let Ok(Err(error)) = stopping.await {
            tracing::warn!(%error, "the last traces may be lost");
        }
    }
}
