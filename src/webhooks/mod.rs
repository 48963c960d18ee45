//! Sends a message to a webhook's receiver, in the format of Standard Webhooks: three headers, the last of which signs
//! the other two and the body. Makes one attempt; retry and backoff are the caller's.
//!
//! Bounded: an attempt takes at most [`ATTEMPT_MAX`]. Of the answer only the status is used, and at most [`ANSWER_MAX`]
//! bytes are read. Redirects are not followed: one could lead into a private network.

pub mod endpoint;
pub mod message;
pub mod sign;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tokio::time::timeout;

pub use endpoint::Endpoint;
pub use message::OutboundMessage;
pub use sign::Secret;

/// Timeout of an attempt.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read at most.
const ANSWER_MAX: usize = 64 * 1024;

/// Timeout for connecting.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long an idle connection is kept. Shorter than the keep-alive of most servers, which avoids most races between a
/// message and the server's close.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// 410: the receiver wants no more messages.
    #[error("it answers 410 Gone")]
    Gone,
    /// A status other than 2xx, including a redirect.
    #[error("it answers {0}")]
    Refused(StatusCode),
    /// No answer before the timeout.
    #[error("no answer within {} s", ATTEMPT_MAX.as_secs())]
    Late,
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Connection(String),
}

impl DeliveryError {
    /// Value of the label `outcome` in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Refused(_) => "refused",
            Self::Late => "timeout",
            Self::Connection(_) => "connection",
        }
    }
}

/// An HTTP client that sends messages. Cheap to clone.
#[derive(Clone)]
pub struct WebhookSender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
}

impl WebhookSender {
    /// Connections live on the current Tokio runtime, whichever thread calls [`Self::send`].
    pub fn new() -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector());
        Self { client, runtime: Handle::current() }
    }

    /// Makes one attempt. A 2xx status means that the receiver has accepted the message.
    pub async fn send(
        &self,
        target: &Endpoint,
        message: OutboundMessage,
    ) -> Result<StatusCode, DeliveryError> {
        let request = request(target, message)?;
        let client = self.client.clone();
        let attempt = self.runtime.spawn(timeout(ATTEMPT_MAX, async move {
            let answer =
                client.request(request).await.map_err(|error| DeliveryError::Connection(causes(&error)))?;
            let status = answer.status();
            // Drain a short body, so that the connection can be reused.
            let _ = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            Ok(status)
        }));
        let abort = Abort(attempt.abort_handle());
        let status = attempt
            .await
            .map_err(|_| DeliveryError::Connection("given up".into()))?
            .unwrap_or(Err(DeliveryError::Late))?;
        drop(abort);
        match status {
            status if status.is_success() => Ok(status),
            StatusCode::GONE => Err(DeliveryError::Gone),
            status => Err(DeliveryError::Refused(status)),
        }
    }
}

impl Default for WebhookSender {
    fn default() -> Self {
        Self::new()
    }
}

/// Aborts the attempt when the caller drops its future.
struct Abort(tokio::task::AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn request(target: &Endpoint, message: OutboundMessage) -> Result<Request<Full<Bytes>>, DeliveryError> {
    let signature = sign::signatures(target.secrets(), &message);
    Request::post(target.url().clone())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("headcount/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", message.id)
        .header("webhook-timestamp", message.sent_at)
        .header("webhook-signature", signature)
        .body(Full::new(message.body))
        .map_err(|error| DeliveryError::Connection(error.to_string()))
}

/// Trusts the system's root certificates. Without any, receivers are still reached by plain HTTP.
fn connector() -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_MAX));
    http.set_nodelay(true);
    let provider = ring::default_provider();
    match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider.clone()) {
        Ok(builder) => builder.https_or_http().enable_http1().wrap_connector(http),
        Err(error) => {
            tracing::warn!(%error, "no certificates to trust: webhooks by https will fail");
            let nobody = ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .expect("ring knows the versions of TLS that rustls does")
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            let builder = HttpsConnectorBuilder::new().with_tls_config(nobody);
            builder.https_or_http().enable_http1().wrap_connector(http)
        }
    }
}

/// An error with all its sources, because the reason is usually in the last.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
