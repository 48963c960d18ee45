//! The HTTP client of the verbs: one call or one stream at a time, by HTTP/1.1, with TLS where the address says so.
//!
//! Each error has a sentence that says what to do about it. The credential is sent to the given address
//! only: a redirection is an answer like any other that is not a success.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client as Http, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::arguments::ServiceArgs;
use super::failure::Failure;
use super::refusal::{CALL_MAX, CallError, Refusal};
use crate::auth::remote::connector;

/// Bytes of an answer, at most: a page of a thousand members with everything they may have is 3 MB.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Rows of an answer: as many as a page may have.
pub const PAGE: usize = 1000;

const EVENT_STREAM: &str = "text/event-stream";

/// A client of one service, with the caller's credential.
pub struct Client {
    base: String,
    http: Http<HttpsConnector<HttpConnector>, Full<Bytes>>,
    credential: Option<SecretString>,
}

impl Client {
    /// Requires a credential. Opens no connection yet.
    pub fn new(target: &ServiceArgs) -> Result<Self, Failure> {
        let client = Self::at(&target.url, target.credential.given())?;
        if client.credential.is_none() {
            let told = "who is asking? Give HEADCOUNT_SERVER_KEY (an application's server) or HEADCOUNT_TOKEN (a user)";
            return Err(Failure::Usage(told.into()));
        }
        Ok(client)
    }

    /// The same, with an optional credential.
    pub fn at(url: &str, credential: Option<SecretString>) -> Result<Self, Failure> {
        let base = url.trim_end_matches('/').to_owned();
        let uri: Option<Uri> = base.parse().ok();
        let uri =
            uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        let uri = uri.filter(|uri| uri.query().is_none()).ok_or_else(|| {
            Failure::Usage(format!(
                "--url or HEADCOUNT_URL is {url}; it must be like https://presence.example.org"
            ))
        })?;
        let connector = connector(&uri)
            .map_err(|error| Failure::Failed(format!("the system's root certificates: {error}")))?;
        let http = Http::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base, http, credential })
    }

    /// The address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same client with another credential.
    pub fn with_credential(&self, credential: Option<SecretString>) -> Self {
        Self { base: self.base.clone(), http: self.http.clone(), credential }
    }

    /// Sends a `GET`, and parses the answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.parse(&self.call(Method::GET, path, None).await?.1)
    }

    /// The same, with the answer as text, and its `Date`: by the clock of the service, or of a proxy before
    /// it.
    pub async fn text(&self, path: &str) -> Result<(String, Option<String>), CallError> {
        let (head, body) = self.call(Method::GET, path, None).await?;
        let date = head.get(DATE).and_then(|date| Some(date.to_str().ok()?.to_owned()));
        Ok((String::from_utf8_lossy(&body).into_owned(), date))
    }

    /// Sends a `POST`, and parses the answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|_| CallError::Foreign(self.base.clone()))?;
        self.parse(&self.call(Method::POST, path, Some(body)).await?.1)
    }

    /// Sends a `GET`, and returns any answer, whatever its status.
    pub async fn answer(&self, path: &str) -> Result<(StatusCode, String), CallError> {
        let asking = async {
            let answer = self.send(self.request(Method::GET, path).body(Full::default())).await?;
            let status = answer.status();
            Ok((status, String::from_utf8_lossy(&self.body(answer.into_body()).await?).into_owned()))
        };
        timeout(CALL_MAX, asking).await.unwrap_or_else(|_| Err(CallError::Late(self.base.clone())))
    }

    /// Opens an event stream, and resumes after `last_event_id`.
    pub async fn open(&self, path: &str, last_event_id: Option<&str>) -> Result<Incoming, CallError> {
        let request = self.request(Method::GET, path).header(ACCEPT, EVENT_STREAM);
        let request =
            last_event_id.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        let opening = timeout(CALL_MAX, self.stream(request)).await;
        Ok(opening.unwrap_or_else(|_| Err(CallError::Late(self.base.clone())))?.into_body())
    }

    /// Opens an event stream as a browser does, which accepts compression. Returns whether it is compressed.
    /// The caller has the timeout: a proxy that buffers a stream may hold back its head too.
    pub async fn open_as_browsers(&self, path: &str) -> Result<(Incoming, bool), CallError> {
        let request = self.request(Method::GET, path).header(ACCEPT, EVENT_STREAM);
        let answer = self.stream(request.header(ACCEPT_ENCODING, "gzip, deflate, br")).await?;
        let compressed = answer.headers().contains_key(CONTENT_ENCODING);
        Ok((answer.into_body(), compressed))
    }

    async fn stream(&self, request: hyper::http::request::Builder) -> Result<Response<Incoming>, CallError> {
        let answer = self.send(request.body(Full::default())).await?;
        let streams = |head: &HeaderMap| {
            head.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(EVENT_STREAM.as_bytes()))
        };
        match answer.status() {
            StatusCode::OK if streams(answer.headers()) => Ok(answer),
            StatusCode::OK => Err(CallError::Foreign(self.base.clone())),
            _ => Err(self.refused(answer).await),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(HeaderMap, Bytes), CallError> {
        let request = self.request(method, path).header(CONTENT_TYPE, "application/json");
        let calling = async {
            let answer = self.send(request.body(Full::from(body.unwrap_or_default()))).await?;
            if !answer.status().is_success() {
                return Err(self.refused(answer).await);
            }
            let (head, body) = answer.into_parts();
            Ok((head.headers, self.body(body).await?))
        };
        timeout(CALL_MAX, calling).await.unwrap_or_else(|_| Err(CallError::Late(self.base.clone())))
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let bearer =
            self.credential.iter().map(|credential| format!("Bearer {}", credential.expose_secret()));
        bearer.fold(request, |request, bearer| request.header(AUTHORIZATION, bearer))
    }

    async fn send(
        &self,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<Response<Incoming>, CallError> {
        let url = self.base.clone();
        let request =
            request.map_err(|error| CallError::Connection { url: url.clone(), reason: error.to_string() })?;
        self.http.request(request).await.map_err(|error| CallError::below_http(url, &error))
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, CallError> {
        let whole = Limited::new(body, ANSWER_MAX).collect().await;
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| CallError::Connection {
            url: self.base.clone(),
            reason: error.to_string(),
        };
        Ok(whole.map_err(broken)?.to_bytes())
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CallError> {
        serde_json::from_slice(body).map_err(|_| CallError::Foreign(self.base.clone()))
    }

    /// Parses an error response. A problem has a code, and a detail or else a title.
    async fn refused(&self, answer: Response<Incoming>) -> CallError {
        let (status, head) = (answer.status(), answer.headers());
        let seconds = head.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        let body = match self.body(answer.into_body()).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| problem[name].as_str().map(str::to_owned);
        let code = text("code").unwrap_or_default();
        let says =
            text("detail").or_else(|| text("title")).unwrap_or_else(|| "no reason is given".to_owned());
        let says = says.trim_end_matches('.').to_owned();
        CallError::Refusal(Refusal { status, code, says, retry_after })
    }
}

/// Percent-encodes a part of an address.
pub fn encoded(text: &str) -> String {
    let whole = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if whole(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}
