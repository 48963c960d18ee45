//! Exports traces to the collector: OTLP over HTTP, as protobuf, through the HTTP client that the program has anyway.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Uri;
use hyper::http::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::auth::remote::connector;

/// Timeout of sending a batch.
pub const SEND_MAX: Duration = Duration::from_secs(5);

/// Limit of an answer, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The system's root certificates cannot be read.
    #[error("HEADCOUNT_OTLP_ENDPOINT: {0}")]
    Roots(#[from] std::io::Error),
    /// The exporter cannot be made.
    #[error("HEADCOUNT_OTLP_ENDPOINT: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Batches spans and sends them to the collector, from a thread of its own.
pub fn provider(endpoint: &Uri) -> Result<SdkTracerProvider, ExportError> {
    let endpoint = format!("{}/v1/traces", endpoint.to_string().trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender::new(&endpoint)?)
        .with_endpoint(endpoint)
        .with_timeout(SEND_MAX)
        .build()?;
    let service = Resource::builder()
        .with_service_name("headcount")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    // Requests that are not sampled have no span, so every span is exported: see `measure::spans`.
    Ok(SdkTracerProvider::builder()
        .with_resource(service)
        .with_sampler(Sampler::AlwaysOn)
        .with_batch_exporter(exporter)
        .build())
}

struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    failing: AtomicBool,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    fn new(endpoint: &str) -> Result<Self, std::io::Error> {
        let url: Uri = endpoint.parse().map_err(std::io::Error::other)?;
        let client = Client::builder(TokioExecutor::new()).build(connector(&url)?);
        Ok(Self { client, runtime: Handle::current(), failing: AtomicBool::new(false) })
    }

    /// Logs a failure only once, when it begins, and not for every batch.
    fn note(&self, result: &Result<Response<Bytes>, HttpError>) {
        let problem = match result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let failing = self.failing.swap(problem.is_some(), Ordering::Relaxed);
        if let (Some(error), false) = (problem, failing) {
            tracing::warn!(error, "traces cannot be sent to HEADCOUNT_OTLP_ENDPOINT; they are dropped");
        }
    }
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Sender {
    /// Runs on the service's runtime, because the exporter's thread has none.
    fn send_bytes<'life0, 'async_trait>(&'life0 self, request: Request<Bytes>) -> Sending<'async_trait>
    where
        'life0: 'async_trait,
    {
        let answer = self.client.request(request.map(Full::new));
        let answer = async move {
            let (head, body) = answer.await?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        let sending = self.runtime.spawn(async { tokio::time::timeout(SEND_MAX, answer).await });
        Box::pin(async move {
            let result = match sending.await {
                Ok(Ok(result)) => result,
                Ok(Err(late)) => Err(late.into()),
                Err(gone) => Err(gone.into()),
            };
            self.note(&result);
            result
        })
    }
}
