//! Webhooks as operators see them: settings and delivery state. Delivery itself is in `deliveries`.

use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use super::{Store, StoreError};
use crate::domain::webhook::WebhookName;

/// Limit of webhooks. Every replica polls each of them, and each is a label value in metrics.
pub const WEBHOOKS_MAX: i32 = 20;

/// The settings of a webhook.
#[derive(Debug)]
pub struct Setup {
    /// Address of the receiver.
    pub url: String,
    /// Topics that it subscribes to.
    pub types: Vec<String>,
    /// Patterns of the rooms that it subscribes to.
    pub rooms: Vec<String>,
    /// How long a leave is held back, in case the user comes back.
    pub leave_delay: std::time::Duration,
    /// Whether it receives events.
    pub enabled: bool,
}

/// The secrets that sign a webhook's messages.
pub struct Secrets {
    /// New secrets; none keeps the stored ones.
    pub given: Option<Vec<String>>,
    /// The secret of a new webhook for which none were given.
    pub made: SecretString,
}

/// The result of an upsert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// The webhook is new.
    Created,
    /// The webhook existed.
    Changed,
    /// The limit of webhooks is reached; nothing was done.
    Full,
}

impl Put {
    fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "created" => Ok(Self::Created),
            "changed" => Ok(Self::Changed),
            "full" => Ok(Self::Full),
            other => Err(StoreError::unknown("outcome of a webhook", other)),
        }
    }
}

/// A webhook, with its delivery state.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredWebhook {
    /// Its name.
    pub name: String,
    /// Address of the receiver.
    pub url: String,
    /// Topics that it subscribes to.
    pub types: Vec<String>,
    /// Patterns of the rooms that it subscribes to.
    pub rooms: Vec<String>,
    /// Milliseconds that a leave is held back, in case the user comes back.
    pub leave_delay_ms: i64,
    /// Whether it receives events.
    pub enabled: bool,
    /// `gone` when the receiver answered 410 Gone.
    pub disabled_reason: Option<String>,
    /// Number of secrets that sign.
    pub secret_count: i32,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
    /// Its lag: events in the log that it has not passed yet, and those still in the outbox. Not all of them need result in
    /// a message.
    pub pending_events: i64,
    /// The number of rooms in which they are.
    pub pending_rooms: i64,
    /// When the oldest of them happened.
    pub oldest_at: Option<OffsetDateTime>,
    /// The database's clock.
    pub now: OffsetDateTime,
    /// The replica that holds the claim and delivers; none if no claim is valid.
    pub replica: Option<String>,
    /// Failed attempts since the last accepted one.
    pub attempts: i32,
    /// When the retry is due, after a failed attempt.
    pub next_attempt_at: Option<OffsetDateTime>,
    /// Why the last failed attempt failed.
    pub last_error: Option<String>,
    /// When the last failed attempt was made.
    pub last_failed_at: Option<OffsetDateTime>,
    /// When the receiver last accepted a batch.
    pub last_accepted_at: Option<OffsetDateTime>,
    /// Notices that the receiver has accepted.
    pub accepted: i64,
}

/// The address of a receiver, and the secrets that sign.
#[derive(sqlx::FromRow)]
pub struct StoredEndpoint {
    /// Address of the receiver.
    pub url: String,
    /// Secrets, in the form in which operators give them.
    pub secrets: Vec<String>,
}

const PUT: &str = "select headcount.webhook_put($1, $2, $3, $4, $5, $6, $7, $8, $9) from headcount.rules";

// All webhooks, or only the one named by `$1`.
const LIST: &str = "select w.name, w.url, w.types, w.rooms, (extract(epoch from w.leave_delay) * 1000)::bigint as leave_delay_ms, \
            w.enabled, w.disabled_reason, w.secret_count, w.created_at, w.updated_at, \
            p.events + coalesce(jsonb_array_length(b.events), 0) as pending_events, p.rooms as pending_rooms, \
            least(p.since, b.since) as oldest_at, clock_timestamp() as now, \
            case when d.leased_until > clock_timestamp() then d.replica end as replica, d.attempts, \
            case when d.attempts > 0 then d.next_attempt_at end as next_attempt_at, d.last_error, d.last_failed_at, \
            d.last_accepted_at, d.accepted \
     from headcount.webhooks w \
     join headcount.webhook_deliveries d on d.name = w.name \
     left join headcount.webhook_batches b on b.name = w.name \
     join headcount.webhook_backlog($1) p on p.name = w.name \
     where $1::text is null or w.name = $1 \
     order by w.name";

impl Store {
    /// Upserts a webhook.
    pub async fn put_webhook(
        &self,
        name: &WebhookName,
        setup: &Setup,
        secrets: &Secrets,
    ) -> Result<Put, StoreError> {
        let outcome: String = self
            .query(PUT)
            .bind(name.as_str())
            .bind(&setup.url)
            .bind(&setup.types)
            .bind(&setup.rooms)
            .bind(setup.leave_delay)
            .bind(setup.enabled)
            .bind(&secrets.given)
            .bind(secrets.made.expose_secret())
            .bind(WEBHOOKS_MAX)
            .value()
            .await?;
        Put::parse(&outcome)
    }

    /// Deletes a webhook and its pending events. Idempotent; returns whether there was one.
    pub async fn delete_webhook(&self, name: &WebhookName) -> Result<bool, StoreError> {
        self.query("select headcount.webhook_delete($1) from headcount.rules")
            .bind(name.as_str())
            .value()
            .await
    }

    /// All webhooks by name, or the one with that name.
    pub async fn webhooks(&self, name: Option<&WebhookName>) -> Result<Vec<StoredWebhook>, StoreError> {
        self.query(LIST).bind(name.map(WebhookName::as_str)).rows().await
    }

    /// The receiver of a webhook, if there is one.
    pub async fn webhook_target(&self, name: &WebhookName) -> Result<Option<StoredEndpoint>, StoreError> {
        self.query("select * from headcount.webhook_target($1)").bind(name.as_str()).row_if_any().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_nobody_knows_is_a_bug_and_no_change() {
        assert_eq!(Put::parse("changed").unwrap(), Put::Changed);
        assert!(matches!(Put::parse("postponed"), Err(StoreError::Bug(_))));
    }
}
