//! A cache of public keys from a URL. They are fetched when the service starts, then every [`FetchPace::refresh`], and
//! when a token names an unknown key.
//!
//! One task fetches, so requests of many callers coalesce into one fetch. Fetches are throttled: two are at least
//! [`FetchPace::apart`] apart, whatever keys the tokens name. A caller that needs newer keys waits for the fetch in
//! progress, at most [`WAIT_MAX`]. An answer that is late, too large, not 200 or without a usable key leaves the cached
//! keys unchanged. So an outage of the identity provider does not affect callers whose tokens use known keys.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::http::uri::Scheme;
use hyper::{StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::jwks::{self, VerifyingKey};

/// Limit of an answer, in bytes.
const ANSWER_MAX: usize = 256 * 1024;

/// Timeout of a fetch.
const FETCH_MAX: Duration = Duration::from_secs(5);

/// Timeout of a caller that waits for newer keys.
const WAIT_MAX: Duration = Duration::from_secs(6);

/// How often keys are fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchPace {
    /// Minimum delay between the end of a fetch and the next one.
    pub apart: Duration,
    /// Maximum delay between the end of a fetch and the next one. A withdrawn key is still accepted for this long.
    pub refresh: Duration,
}

impl Default for FetchPace {
    fn default() -> Self {
        Self { apart: Duration::from_secs(10), refresh: Duration::from_secs(300) }
    }
}

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer within {} s", FETCH_MAX.as_secs())]
    Late,
    #[error("{}", causes(.0))]
    Connection(#[from] hyper_util::client::legacy::Error),
    /// Redirects are refused too: one could lead to plain HTTP, or into a private network.
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("the answer is larger than {ANSWER_MAX} bytes")]
    Large,
    #[error("the answer breaks off")]
    Broken,
    #[error("no RSA, P-256 or Ed25519 public key in the answer")]
    NoKey,
}

/// State of the fetches.
#[derive(Clone, Copy, Default)]
struct Fetches {
    done: u64,
    /// The end of the last fetch, and whether it returned keys.
    last: Option<(Instant, bool)>,
    under_way: bool,
}

/// A cache of keys from a URL.
pub struct Remote {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    pace: FetchPace,
    keys: RwLock<Vec<VerifyingKey>>,
    edition: AtomicU64,
    wanted: Notify,
    fetches: watch::Sender<Fetches>,
}

impl Remote {
    /// Does not fetch yet: see [`Self::run`].
    pub(super) fn new(url: Uri, pace: FetchPace) -> Result<Self, std::io::Error> {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector(&url)?);
        let (keys, edition) = (RwLock::default(), AtomicU64::new(0));
        let (wanted, fetches) = (Notify::new(), watch::Sender::default());
        Ok(Self { url, client, pace, keys, edition, wanted, fetches })
    }

    /// Fetches once, and returns the number of keys, or the reason of a failure.
    pub async fn look(&self) -> Result<usize, String> {
        self.fetch().await.map_err(|error| error.to_string())?;
        Ok(self.with_keys(<[_]>::len))
    }

    /// Fetches periodically and on demand, for as long as the future is polled.
    pub async fn run(&self) {
        loop {
            self.fetches.send_modify(|fetches| fetches.under_way = true);
            let result = self.fetch().await;
            if let Err(error) = &result {
                tracing::warn!(%error, "keys of tokens cannot be fetched; they stay as they were");
            }
            let last = Some((Instant::now(), result.is_ok()));
            self.fetches
                .send_modify(|fetches| *fetches = Fetches { done: fetches.done + 1, last, under_way: false });
            self.wanted.notified().now_or_never(); // this fetch served the requests that came meanwhile
            sleep(self.pace.apart).await;
            let _ = timeout(self.pace.refresh.saturating_sub(self.pace.apart), self.wanted.notified()).await;
        }
    }

    async fn fetch(&self) -> Result<(), FetchError> {
        let found = timeout(FETCH_MAX, self.answer()).await.unwrap_or(Err(FetchError::Late))?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *keys = found;
        self.edition.fetch_add(1, Ordering::Release);
        Ok(())
    }

    async fn answer(&self) -> Result<Vec<VerifyingKey>, FetchError> {
        let answer = self.client.get(self.url.clone()).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { FetchError::Large } else { FetchError::Broken }
        })?;
        let found = jwks::parse(&body.to_bytes());
        if found.is_empty() { Err(FetchError::NoKey) } else { Ok(found) }
    }

    /// Waits for newer keys: not at all after a recent fetch, because of the throttle, else until the next fetch.
    pub(super) async fn freshen(&self) {
        let mut fetches = self.fetches.subscribe();
        let Fetches { done, last, under_way } = *fetches.borrow_and_update();
        if !under_way {
            if last.is_some_and(|(end, _)| end.elapsed() < self.pace.apart) {
                return;
            }
            self.wanted.notify_one();
        }
        let _ = timeout(WAIT_MAX, fetches.wait_for(|fetches| fetches.done > done)).await;
    }

    /// Increases with every fetch that returned keys.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// Whether the last fetch returned keys.
    pub(super) fn is_current(&self) -> bool {
        self.fetches.borrow().last.is_some_and(|(_, good)| good)
    }

    /// Passes the keys to a function that reads them.
    pub(super) fn with_keys<T>(&self, look: impl FnOnce(&[VerifyingKey]) -> T) -> T {
        look(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Trusts the system's root certificates. For a plain HTTP address none are needed.
pub fn connector(url: &Uri) -> Result<HttpsConnector<HttpConnector>, std::io::Error> {
    let provider = ring::default_provider();
    let builder = HttpsConnectorBuilder::new();
    if url.scheme() == Some(&Scheme::HTTPS) {
        return Ok(builder.with_provider_and_native_roots(provider)?.https_only().enable_http1().build());
    }
    let nobody = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("ring knows the versions of TLS that rustls does")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(builder.with_tls_config(nobody).https_or_http().enable_http1().build())
}

/// An error with all its sources, because the reason is usually in the last.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
