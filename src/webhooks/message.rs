//! A message to a receiver, with its envelope.

use bytes::Bytes;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::timestamp;

/// A message that can be sent.
#[derive(Clone)]
pub struct OutboundMessage {
    /// Message id. The same in every retry, so that receivers can be idempotent.
    pub id: String,
    /// Time of this attempt, in seconds since 1970.
    pub sent_at: i64,
    /// JSON.
    pub body: Bytes,
}

impl OutboundMessage {
    /// Wraps `data`, which is JSON, in the envelope: its type `kind`, and the time `at` that belongs to it.
    pub fn new(id: Uuid, now: OffsetDateTime, kind: &str, at: OffsetDateTime, data: &str) -> Self {
        let mut moment = Vec::new();
        timestamp::serialize(&at, &mut serde_json::Serializer::new(&mut moment))
            .expect("a moment can be written into memory");
        let moment = String::from_utf8_lossy(&moment);
        let body = format!(r#"{{"type":"{kind}","timestamp":{moment},"data":{data}}}"#).into();
        Self { id: format!("msg_{}", id.simple()), sent_at: now.unix_timestamp(), body }
    }
}
