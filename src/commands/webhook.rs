//! Webhooks: upsert and delete.

use super::{CommandError, Commands};
use crate::domain::webhook::WebhookName;
use crate::measure::throttle;
use crate::store::webhooks::{Put, Secrets, Setup, StoredWebhook};
use crate::store::{Store, StoreError};

impl Commands {
    /// Upserts a webhook and returns it as stored; none if there are as many webhooks as the limit allows.
    pub async fn put_webhook(
        &self,
        name: WebhookName,
        setup: Setup,
        secrets: Secrets,
    ) -> Result<(Put, Option<StoredWebhook>), CommandError> {
        let put = move |store: Store| async move {
            let put = store.put_webhook(&name, &setup, &secrets).await?;
            // A failed read does not mean that nothing was written.
            let found = store.webhooks(Some(&name)).await.map_err(|_| StoreError::OutcomeUnknown)?;
            Ok((put, found.into_iter().next()))
        };
        answer(self.store.detached(put).await)
    }

    /// Deletes a webhook and its undelivered events. Returns whether it existed.
    pub async fn delete_webhook(&self, name: WebhookName) -> Result<bool, CommandError> {
        answer(self.store.detached(move |store| async move { store.delete_webhook(&name).await }).await)
    }
}

fn answer<T>(result: Result<T, StoreError>) -> Result<T, CommandError> {
    result.map_err(|error| {
        if let Some(suppressed) = throttle::admit("a webhook call failed", error.name()) {
            tracing::warn!(%error, suppressed, "a webhook call failed");
        }
        CommandError::from(&error)
    })
}
