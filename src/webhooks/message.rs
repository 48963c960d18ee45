//! A message to a receiver, in its envelope.

use bytes::Bytes;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::timestamp;

/// What is sent.
#[derive(Clone)]
pub struct OutboundMessage {
    /// The same at every attempt.
    pub id: String,
    /// Of this attempt, in seconds since 1970.
    pub sent_at: i64,
    /// JSON.
    pub body: Bytes,
}

impl OutboundMessage {
    /// In its envelope: a type, the time that goes with the content, and the content, which is JSON.
    pub fn new(id: Uuid, now: OffsetDateTime, kind: &str, at: OffsetDateTime, data: &str) -> Self {
        let mut moment = Vec::new();
        timestamp::serialize(&at, &mut serde_json::Serializer::new(&mut moment))
            .expect("a moment can be written into memory");
        let moment = String::from_utf8_lossy(&moment);
        let body = format!(r#"{{"type":"{kind}","timestamp":{moment},"data":{data}}}"#).into();
        Self { id: format!("msg_{}", id.simple()), sent_at: now.unix_timestamp(), body }
    }
}
