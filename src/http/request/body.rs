//! Reads a request's body. Its media type, size, time and form are checked here, once.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use super::problem::{Code, Problem};

/// Timeout for receiving a body. actix itself has none.
const BODY_MAX_TIME: Duration = Duration::from_secs(10);

/// Bytes of an ordinary body, at most. 100 heartbeats are about 12 KiB.
pub const BODY_MAX: usize = 32 * 1024;

/// Bytes of a bulk body, at most. 1000 profiles of 1 KiB.
pub const BULK_BODY_MAX: usize = 1024 * 1024;

/// A JSON body of at most `MAX` bytes: an object, or with `LIST` also an array.
pub struct Body<T, const MAX: usize = BODY_MAX, const LIST: bool = false>(pub T);

impl<T: DeserializeOwned + 'static, const MAX: usize, const LIST: bool> FromRequest for Body<T, MAX, LIST> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let json = media_type(request) == "application/json";
        let payload = payload.take();
        Box::pin(async move {
            // Drain even a body that is refused: left unread, it costs the client its connection.
            let bytes = read(payload, MAX).await?;
            match (json, LIST) {
                (false, _) => Err(Code::UnsupportedType.into()),
                (true, false) => parse(&bytes).map(Self),
                (true, true) => parse_list(&bytes).map(Self),
            }
        })
    }
}

/// The content type without its parameters, in lower case.
pub fn media_type(request: &HttpRequest) -> String {
    let header = request.headers().get(CONTENT_TYPE).and_then(|h| h.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a body to its end, within its limits.
pub async fn read(payload: Payload, max: usize) -> Result<Bytes, Problem> {
    tokio::time::timeout(BODY_MAX_TIME, collect(payload, max)).await.unwrap_or(Err(Code::BodyTimeout.into()))
}

async fn collect(mut payload: Payload, max: usize) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::with(Code::InvalidBody, error.to_string()))?;
        if bytes.len() + chunk.len() > max {
            return Err(Problem::with(Code::BodyTooLarge, format!("at most {max} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Parses an integer, also one written as `1.0`: in JSON that is the same number.
pub fn integer<'de, D: Deserializer<'de>, N: TryFrom<i64>>(number: D) -> Result<Option<N>, D::Error> {
    /// 2^53. Beyond it, a float does not identify one integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let Some(number) = Option::<serde_json::Number>::deserialize(number)? else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, reason = "only what is an integer within bounds is cast")]
    let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= EXACT_MAX).map(|n| n as i64);
    match number.as_i64().or(whole).and_then(|integer| N::try_from(integer).ok()) {
        Some(integer) => Ok(Some(integer)),
        None => Err(D::Error::custom(format!("{number} is not an integer, or not within its bounds"))),
    }
}

/// Parses a JSON object, and refuses an array: serde would take one for an object, with its fields in order.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::with(Code::InvalidBody, "an object is expected, not a list"));
    }
    parse_list(bytes)
}

/// Parses JSON that may be an array.
pub fn parse_list<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let code = if error.is_data() { Code::InvalidBody } else { Code::InvalidJson };
        Problem::with(code, error.to_string())
    })
}
