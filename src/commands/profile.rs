//! Profiles: upsert and erase. A change is an `updated` event in every room the user is in.

use time::OffsetDateTime;

use super::{CommandError, Commands};
use crate::domain::id::UserId;
use crate::measure::throttle;
use crate::store::StoreError;
use crate::store::users::Profile;

impl Commands {
    /// Upserts profiles, all or none.
    pub async fn put_users(&self, profiles: Vec<Profile>) -> Result<Vec<Profile>, CommandError> {
        answer(self.store.detached(move |store| async move { store.put_users(&profiles).await }).await)
    }

    /// Ends a user's presence and deletes what is stored about them, but what the log says, which a task deletes. Returns
    /// whether there was anything, or the task is still at it.
    pub async fn erase_user(&self, user: UserId) -> Result<bool, CommandError> {
        answer(self.store.detached(move |store| async move { store.erase_user(&user).await }).await)
    }

    /// Ends a user's sessions and revokes their tokens. Returns from when on a token must be issued.
    pub async fn revoke(&self, user: UserId) -> Result<OffsetDateTime, CommandError> {
        answer(self.store.detached(move |store| async move { store.revoke(&user).await }).await)
    }
}

fn answer<T>(result: Result<T, StoreError>) -> Result<T, CommandError> {
    result.map_err(|error| {
        if let Some(suppressed) = throttle::admit("a profile call failed", error.name()) {
            tracing::warn!(%error, suppressed, "a profile call failed");
        }
        CommandError::from(&error)
    })
}
