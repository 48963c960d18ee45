//! Delivers events to webhooks. There is no leader: every replica polls, and claims a webhook that has
//! something to deliver and no other claim. The claim is a lease of 5 s, renewed for as long as there is
//! more. If the replica is killed, its lease runs out, and another one takes over.
//!
//! Bounded: one message in flight for each webhook, of which there are few (`store::webhooks::WEBHOOKS_MAX`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use uuid::Uuid;

use super::Periodic;
use crate::domain::notice::{Advance, Batch, Due, Subscription};
use crate::domain::webhook::retry_after;
use crate::measure::meters;
use crate::store::deliveries::{Claim, ClaimedWebhook};
use crate::store::{Store, StoreError, bounded};
use crate::webhooks::endpoint::Plain;
use crate::webhooks::{DeliveryError, Endpoint, OutboundMessage, WebhookSender};

/// Time between polls, while there is an enabled webhook.
const PERIOD: Duration = Duration::from_millis(250);

/// Polls that are skipped while there is none: the first webhook is found within 2 s.
const REST: u32 = 7;

/// Polls in one run, at most, while there is more to do.
const LOOKS_MAX: usize = 8;

/// Heartbeat of a claim: it is renewed this often while a message is in flight, well within its lease of 5 s.
const HOLD_EVERY: Duration = Duration::from_millis(1500);

/// Time between two counts of the backlog.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Delivers to webhooks.
pub struct DeliverWebhooks {
    store: Store,
    sender: WebhookSender,
    plain: Plain,
    delivering: JoinSet<()>,
    rest: u32,
    counted: Option<Instant>,
    named: BTreeSet<String>,
}

impl DeliverWebhooks {
    /// A task that has not run yet.
    pub fn new(store: Store, sender: WebhookSender, plain: Plain) -> Self {
        let (delivering, named) = (JoinSet::new(), BTreeSet::new());
        Self { store, sender, plain, delivering, rest: 0, counted: None, named }
    }

    /// Sets the gauges of the backlog. Every replica reports the same for all webhooks, because the database
    /// counts.
    async fn count(&mut self) -> Result<(), StoreError> {
        let webhooks = bounded(self.store.webhooks(None)).await?;
        let gone = std::mem::take(&mut self.named);
        let mut figures: BTreeMap<String, (i64, f64)> =
            gone.into_iter().map(|name| (name, (0, 0.0))).collect();
        for webhook in webhooks {
            let age = webhook.oldest_at.map_or(0.0, |at| (webhook.now - at).as_seconds_f64().max(0.0));
            figures.insert(webhook.name.clone(), (webhook.pending_events, age));
            self.named.insert(webhook.name);
        }
        for (name, (behind, age)) in figures {
            #[expect(clippy::cast_precision_loss, reason = "a count of events is far below 2^52")]
            meters().webhook_backlog.with(&[("webhook", &name)]).set(behind as f64);
            meters().webhook_backlog_age.with(&[("webhook", &name)]).set(age);
        }
        self.counted = Some(Instant::now());
        Ok(())
    }
}

impl Periodic for DeliverWebhooks {
    const NAME: &'static str = "webhooks";

    fn period(&self) -> Duration {
        PERIOD
    }

    async fn run_once(&mut self) -> Result<Option<String>, StoreError> {
        while self.delivering.try_join_next().is_some() {}
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(None);
        }
        let mut told = None;
        for _ in 0..LOOKS_MAX {
            let claim = Uuid::new_v4();
            let tick = bounded(self.store.tick_webhooks(claim)).await?;
            if !tick.enabled {
                self.rest = REST;
            }
            if !tick.claimed.is_empty() {
                told = Some(format!("delivers for {}", tick.claimed.join(", ")));
            }
            for name in tick.claimed {
                let (store, sender, plain) = (self.store.clone(), self.sender.clone(), self.plain);
                let delivery = Delivery { store, sender, plain, claim: Claim { name, id: claim } };
                self.delivering.spawn(delivery.run());
            }
            if !tick.more {
                break;
            }
        }
        let due = self.counted.is_none_or(|counted| counted.elapsed() >= COUNT_EVERY);
        if due && (self.rest == 0 || !self.named.is_empty()) {
            self.count().await?;
        }
        Ok(told)
    }
}

/// The deliveries of one webhook that this replica has claimed.
struct Delivery {
    store: Store,
    sender: WebhookSender,
    plain: Plain,
    claim: Claim,
}

#[derive(PartialEq, Eq)]
enum Step {
    More,
    Done,
}

impl Delivery {
    async fn run(self) {
        loop {
            match self.step().await {
                Ok(Step::More) => {}
                Ok(Step::Done) => return,
                Err(error) => {
                    // The lease runs out, and the next claim is the retry.
                    tracing::warn!(webhook = self.claim.name, %error, "a delivery was interrupted");
                    return;
                }
            }
        }
    }

    async fn step(&self) -> Result<Step, StoreError> {
        let Some(held) = bounded(self.store.hold_webhook(&self.claim)).await? else {
            return Ok(Step::Done);
        };
        let batch = &held.batch;
        match (batch.batch_id, batch.made_at, &batch.events) {
            (Some(id), Some(made_at), Some(events)) => {
                let data = format!(r#"{{"events":{}}}"#, events.get());
                let message = OutboundMessage::new(id, held.now, "presence.batch", made_at, &data);
                self.deliver(&held, id, message).await
            }
            _ => self.decide(&held).await,
        }
    }

    /// Decides what to send next, and stores it. Nothing is sent before it is stored, so a retry sends the
    /// same bytes.
    async fn decide(&self, held: &ClaimedWebhook) -> Result<Step, StoreError> {
        let delay = Duration::from_millis(u64::try_from(held.leave_delay_ms).unwrap_or(0));
        let mut due = bounded(self.store.due_notices(&self.claim, delay)).await?;
        if due.is_empty() {
            bounded(self.store.release_webhook(&self.claim)).await?;
            return Ok(Step::Done);
        }
        for room in &mut due {
            if let Some(until) = room.gap_until() {
                room.count_after_gap = Some(bounded(self.store.members_at(&room.room, until)).await?);
                tracing::warn!(webhook = self.claim.name, room = %room.room, "events are missing in the log");
            }
        }
        let topics = held.types.0.clone();
        let mut batch = Batch::new(Subscription { topics, delay }, held.now);
        let mut moved: Vec<(&Due, Advance)> = Vec::new();
        for room in &due {
            if !batch.has_room() {
                break;
            }
            moved.push((room, batch.add(room)));
        }
        let made = self.store.make_batch(&self.claim, &batch.notices, &moved, held.now);
        Ok(if bounded(made).await? { Step::More } else { Step::Done })
    }

    async fn deliver(
        &self,
        held: &ClaimedWebhook,
        batch: Uuid,
        message: OutboundMessage,
    ) -> Result<Step, StoreError> {
        let from = Instant::now();
        let outcome = match Endpoint::parse(&held.url, &held.secrets, self.plain) {
            Ok(target) => self.send(&target, message).await,
            Err(error) => Err(DeliveryError::Connection(error.to_string())),
        };
        let name = &self.claim.name;
        let told = outcome.as_ref().map_or_else(DeliveryError::as_str, |()| "accepted");
        meters().webhook_deliveries.with(&[("webhook", name), ("outcome", told)]).increment(1);
        meters().webhook_duration.with(&[("webhook", name)]).record(from.elapsed());
        match outcome {
            Ok(()) => {
                if held.attempts > 0 {
                    tracing::info!(webhook = name, attempts = held.attempts, "the receiver accepts again");
                }
                bounded(self.store.accept_batch(&self.claim, batch)).await?;
                return Ok(Step::More);
            }
            Err(DeliveryError::Gone) => {
                tracing::warn!(webhook = name, "the receiver answers 410 Gone: disabled");
                bounded(self.store.disable_gone(&self.claim, &DeliveryError::Gone.to_string())).await?;
            }
            Err(failure) => {
                let attempts = u32::try_from(held.attempts).unwrap_or(0) + 1;
                // A failure is logged when it begins, not at every attempt.
                if attempts == 1 {
                    tracing::warn!(webhook = name, %failure, "the receiver did not accept; tries again");
                }
                let retry = retry_after(attempts, rand::random());
                bounded(self.store.fail_batch(&self.claim, &failure.to_string(), retry)).await?;
            }
        }
        Ok(Step::Done)
    }

    /// Sends, and renews the claim meanwhile. A claim lost meanwhile changes nothing: the receiver may have
    /// the message already.
    async fn send(&self, target: &Endpoint, message: OutboundMessage) -> Result<(), DeliveryError> {
        let sending = self.sender.send(target, message);
        tokio::pin!(sending);
        let mut hold = interval(HOLD_EVERY);
        hold.tick().await; // the first tick is immediate, and the claim was just renewed
        loop {
            tokio::select! {
                sent = &mut sending => return sent.map(drop),
                _ = hold.tick() => {
                    if let Err(error) = bounded(self.store.hold_webhook(&self.claim)).await {
                        tracing::debug!(webhook = self.claim.name, %error, "a claim could not be held");
                    }
                }
            }
        }
    }
}
