//! The bodies of requests and answers about webhooks.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::pattern::can_match;
use crate::domain::webhook::Topic;
use crate::http::request::problem::{Code, Problem};
use crate::http::service::Service;
use crate::store::webhooks::{Setup, StoredWebhook as Stored};
use crate::webhooks::Endpoint;
use crate::webhooks::endpoint::check_url;

/// Patterns of rooms, at most.
const PATTERNS_MAX: usize = 32;

/// The longest debounce of a leave: half of the shortest retention of the log.
const LEAVE_DELAY_MS_MAX: i64 = 300_000;

/// The settings of a webhook. A field that is left out takes its default, except `secrets`, which stay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookBody {
    /// Address of the receiver: `https:`, or `http:` only on the service's own machine or where a setting
    /// allows it.
    #[schema(
        example = "https://app.example/hooks/presence",
        max_length = 2048,
        pattern = r"^https?://[^\u0000#@]+$"
    )]
    url: String,
    /// Topics that it subscribes to; all if not given.
    #[schema(example = json!(["member.joined", "member.left"]), min_items = 1, max_items = 5)]
    types: Option<Vec<Topic>>,
    /// Rooms that it subscribes to: keys, or prefixes with `*` after them; all if not given.
    #[schema(example = json!(["team:*"]), min_items = 1, max_items = 32)]
    rooms: Option<Vec<String>>,
    /// Debounce of leaves, in milliseconds: if the same user comes back in time, neither the leave nor the
    /// join is sent. 0 if not given: a leave is sent immediately.
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    #[schema(example = 10000, minimum = 0, maximum = 300000)]
    leave_delay_ms: Option<i64>,
    /// Whether it receives events; `true` if not given. Nothing is queued for a disabled webhook.
    enabled: Option<bool>,
    /// Secrets that sign messages: `whsec_` and the base64 of 24 to 64 random bytes. Two while they are
    /// rotated: each message is then signed with both. If not given, the stored ones stay; for a new webhook
    /// one is made.
    #[schema(example = json!(["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]), min_items = 1, max_items = 2)]
    secrets: Option<Vec<String>>,
}

/// A webhook, with its delivery state.
#[derive(Serialize, ToSchema)]
pub struct Webhook {
    /// Its name.
    #[schema(example = "crm")]
    name: String,
    /// Address of the receiver.
    #[schema(example = "https://app.example/hooks/presence")]
    url: String,
    /// Topics that it subscribes to.
    #[schema(value_type = Vec<Topic>)]
    types: Vec<String>,
    /// Rooms that it subscribes to.
    #[schema(example = json!(["team:*"]))]
    rooms: Vec<String>,
    /// Debounce of leaves, in milliseconds.
    #[schema(example = 10000)]
    leave_delay_ms: i64,
    /// Whether it receives events.
    enabled: bool,
    /// `gone` when the receiver answered 410, and so disabled it; null otherwise.
    #[schema(example = "gone")]
    disabled_reason: Option<String>,
    /// Number of secrets that sign its messages.
    #[schema(example = 1)]
    secret_count: i32,
    /// The secret that was made for it. Only in the answer that created the webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: Option<String>,
    /// When it was made.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: OffsetDateTime,
    /// Its delivery state.
    delivery: WebhookDelivery,
}

/// The delivery state of a webhook.
#[derive(Serialize, ToSchema)]
pub struct WebhookDelivery {
    /// Its lag: events in the log that it has not passed yet. Not all of them need result in a message.
    #[schema(example = 0)]
    pending_events: i64,
    /// The number of rooms in which they are.
    #[schema(example = 0)]
    pending_rooms: i64,
    /// Milliseconds since the oldest of them happened; 0 if there is none.
    #[schema(example = 0)]
    lag_ms: i64,
    /// The replica that delivers now, or null.
    #[schema(example = "web-1:8080")]
    replica: Option<String>,
    /// Failed attempts since the last accepted one.
    #[schema(example = 0)]
    attempts: i32,
    /// When the retry is due, after a failed attempt; null otherwise.
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<OffsetDateTime>,
    /// Why the last failed attempt failed; null if none did.
    #[schema(example = "it answers 503 Service Unavailable")]
    last_error: Option<String>,
    /// When the last failed attempt was made; null if none failed.
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_failed_at: Option<OffsetDateTime>,
    /// When the receiver last accepted a message.
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_accepted_at: Option<OffsetDateTime>,
    /// Events that the receiver has accepted, in total.
    #[schema(example = 4096)]
    accepted_events: i64,
}

/// All webhooks; there are 20 at most.
#[derive(Serialize, ToSchema)]
pub struct Webhooks {
    /// By name.
    webhooks: Vec<Webhook>,
}

/// The result of a test.
#[derive(Serialize, ToSchema)]
pub struct WebhookTest {
    /// Whether the receiver answered 2xx.
    accepted: bool,
    /// The error, or null.
    #[schema(example = "it answers 401 Unauthorized")]
    error: Option<String>,
    /// How long it took.
    #[schema(example = 42)]
    duration_ms: u64,
}

impl Webhook {
    pub(super) fn of(stored: Stored, secret: Option<&SecretString>) -> Self {
        let lag = stored.oldest_at.map_or(0, |at| (stored.now - at).whole_milliseconds().max(0));
        Self {
            name: stored.name,
            url: stored.url,
            types: stored.types,
            rooms: stored.rooms,
            leave_delay_ms: stored.leave_delay_ms,
            enabled: stored.enabled,
            disabled_reason: stored.disabled_reason,
            secret_count: stored.secret_count,
            secret: secret.map(|secret| secret.expose_secret().to_owned()),
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            delivery: WebhookDelivery {
                pending_events: stored.pending_events,
                pending_rooms: stored.pending_rooms,
                lag_ms: i64::try_from(lag).unwrap_or(i64::MAX),
                replica: stored.replica,
                attempts: stored.attempts,
                next_attempt_at: stored.next_attempt_at,
                last_error: stored.last_error,
                last_failed_at: stored.last_failed_at,
                last_accepted_at: stored.last_accepted_at,
                accepted_events: stored.accepted,
            },
        }
    }
}

impl Webhooks {
    pub(super) fn of(stored: Vec<Stored>) -> Self {
        Self { webhooks: stored.into_iter().map(|stored| Webhook::of(stored, None)).collect() }
    }
}

impl WebhookTest {
    pub(super) fn of(error: Option<String>, took: Duration) -> Self {
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Self { accepted: error.is_none(), error, duration_ms }
    }
}

impl WebhookBody {
    /// What is stored, and the secrets that were given.
    pub(super) fn check(self, service: &Service) -> Result<(Setup, Option<Vec<String>>), Problem> {
        let invalid = |detail: String| Problem::with(Code::InvalidWebhook, detail);
        check_url(&self.url, service.webhooks.plain).map_err(|error| invalid(error.to_string()))?;
        if let Some(secrets) = &self.secrets {
            Endpoint::parse(&self.url, secrets, service.webhooks.plain)
                .map_err(|error| invalid(error.to_string()))?;
        }
        let mut types = self.types.unwrap_or_else(|| Topic::ALL.to_vec());
        types.sort_unstable();
        types.dedup();
        let rooms = self.rooms.unwrap_or_else(|| vec!["*".into()]);
        if types.is_empty() || rooms.is_empty() || rooms.len() > PATTERNS_MAX {
            return Err(invalid(format!("types are one at least, rooms 1 to {PATTERNS_MAX}")));
        }
        if let Some(bad) = rooms.iter().find(|pattern| !can_match(pattern)) {
            return Err(invalid(format!(
                "{bad:?} is neither a room nor the beginning of one with * after it"
            )));
        }
        let delay = self.leave_delay_ms.unwrap_or(0);
        if !(0..=LEAVE_DELAY_MS_MAX).contains(&delay) {
            return Err(invalid(format!("leave_delay_ms is 0 to {LEAVE_DELAY_MS_MAX}")));
        }
        let setup = Setup {
            url: self.url,
            types: types.into_iter().map(|topic| topic.as_str().to_owned()).collect(),
            rooms,
            leave_delay: Duration::from_millis(delay.unsigned_abs()),
            enabled: self.enabled.unwrap_or(true),
        };
        Ok((setup, self.secrets))
    }
}
