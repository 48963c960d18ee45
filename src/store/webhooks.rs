//! Webhooks as operators see them: where they lead, what they tell, how they do. What is sent is in `deliveries`.

use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use super::{Store, StoreError};
use crate::domain::webhook::WebhookName;

/// Webhooks there may be: each costs every replica a look, and is a label of metrics.
pub const WEBHOOKS_MAX: i32 = 20;

/// What a webhook is to be.
#[derive(Debug)]
pub struct Setup {
    /// Where it leads.
    pub url: String,
    /// What it is told.
    pub types: Vec<String>,
    /// In which rooms: patterns.
    pub rooms: Vec<String>,
    /// A leave waits so long for the same user to come back.
    pub leave_delay: std::time::Duration,
    /// Whether it is told anything.
    pub enabled: bool,
}

/// What a webhook's messages are signed with.
pub struct Secrets {
    /// These; none keeps those that are there.
    pub given: Option<Vec<String>>,
    /// Of a new webhook, when none were given.
    pub made: SecretString,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It is new.
    Created,
    /// It was there.
    Changed,
    /// There are as many as there may be; nothing was done.
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

/// A webhook, and how it does.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredWebhook {
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub url: String,
    /// What it is told.
    pub types: Vec<String>,
    /// In which rooms.
    pub rooms: Vec<String>,
    /// A leave waits so many milliseconds.
    pub leave_delay_ms: i64,
    /// Whether it is told anything.
    pub enabled: bool,
    /// `gone` when the receiver said so.
    pub disabled_reason: Option<String>,
    /// Secrets that sign.
    pub secret_count: i32,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
    /// Events of the log that it has not been told of; not all of them need be something to tell.
    pub pending_events: i64,
    /// Rooms they are in.
    pub pending_rooms: i64,
    /// When the oldest of them happened.
    pub oldest_at: Option<OffsetDateTime>,
    /// The database's clock.
    pub now: OffsetDateTime,
    /// The replica that delivers now.
    pub replica: Option<String>,
    /// Failed attempts since the last that was accepted.
    pub attempts: i32,
    /// When the next one is due, after a failed one.
    pub next_attempt_at: Option<OffsetDateTime>,
    /// Why the last failed attempt failed.
    pub last_error: Option<String>,
    /// When.
    pub last_failed_at: Option<OffsetDateTime>,
    /// When the receiver last accepted something.
    pub last_accepted_at: Option<OffsetDateTime>,
    /// Notices that it accepted.
    pub accepted: i64,
}

/// Where a webhook leads, and what signs.
#[derive(sqlx::FromRow)]
pub struct StoredEndpoint {
    /// Where.
    pub url: String,
    /// In the form of operators.
    pub secrets: Vec<String>,
}

const PUT: &str = "select headcount.webhook_put($1, $2, $3, $4, $5, $6, $7, $8, $9) from headcount.rules";

// All of them, or the one with that name.
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
     cross join lateral ( \
         select coalesce(sum(r.head - r.version), 0)::bigint as events, count(distinct r.room_id) as rooms, min(r.since) as since \
         from headcount.webhook_rooms r where r.name = w.name \
     ) p \
     where $1::text is null or w.name = $1 \
     order by w.name";

impl Store {
    /// Makes or changes a webhook.
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

    /// Removes a webhook and what it had still to tell. Gives whether there was one.
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

    /// Where a webhook leads, if there is one.
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
