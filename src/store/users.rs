//! Reads, writes and erases the profiles of users; makes the log forget those who were erased.

use super::{Store, StoreError};
use crate::domain::id::UserId;

/// A user's profile, as stored.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Profile {
    /// The user's id.
    pub user_id: String,
    /// Display name.
    pub name: String,
    /// Picture, or none.
    pub avatar_url: Option<String>,
    /// How much others are told of when the user was last seen; none keeps the stored value.
    pub show_last_seen: Option<String>,
}

const PUT: &str = "select p.* from headcount.rules, headcount.put_users(array( \
     select (user_id, name, coalesce(avatar_url, ''), show_last_seen)::headcount.profile \
     from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as given (user_id, name, avatar_url, show_last_seen))) p";

const GET: &str = "select user_id, name, avatar_url, show_last_seen from headcount.users where user_id = $1";

const EVENTS_OF_PROFILE: &str = "select case when exists ( \
         select from headcount.users u where u.user_id = $1 and (u.name, u.avatar_url) is distinct from ($2, $3) \
     ) then (select count(distinct m.room_id) from headcount.memberships m where m.user_id = $1 and not m.invisible) \
     else 0 end";

const ROOMS_OF: &str = "select count(distinct m.room_id) from headcount.memberships m where m.user_id = $1";

impl Store {
    /// Upserts profiles, all or none. Returns the stored profiles, in no particular order.
    pub async fn put_users(&self, profiles: &[Profile]) -> Result<Vec<Profile>, StoreError> {
        let ids: Vec<&str> = profiles.iter().map(|p| p.user_id.as_str()).collect();
        let names: Vec<&str> = profiles.iter().map(|p| p.name.as_str()).collect();
        let avatars: Vec<Option<&str>> = profiles.iter().map(|p| p.avatar_url.as_deref()).collect();
        let shows: Vec<Option<&str>> = profiles.iter().map(|p| p.show_last_seen.as_deref()).collect();
        self.query(PUT).bind(ids).bind(names).bind(avatars).bind(shows).rows().await
    }

    /// A profile, if there is one.
    pub async fn user(&self, id: &UserId) -> Result<Option<Profile>, StoreError> {
        self.query(GET).bind(id.as_str()).row_if_any().await
    }

    /// The events that these profiles would cause: one in each room where others see the user, if anything changes.
    pub async fn events_of_profile(&self, profile: &Profile) -> Result<i64, StoreError> {
        let query = self.query(EVENTS_OF_PROFILE).bind(&profile.user_id).bind(&profile.name);
        query.bind(profile.avatar_url.as_deref()).value().await
    }

    /// The rooms in which a user is.
    pub async fn rooms_of(&self, user: &UserId) -> Result<i64, StoreError> {
        self.query(ROOMS_OF).bind(user.as_str()).value().await
    }

    /// Ends a user's presence, deletes the profile, and queues the search of the log. Idempotent; returns whether there
    /// was a profile, or the log is still being searched.
    pub async fn erase_user(&self, id: &UserId) -> Result<bool, StoreError> {
        self.query("select headcount.erase_user($1) from headcount.rules").bind(id.as_str()).value().await
    }

    /// Searches the next blocks of the log for users who were erased. Returns whether there is more to search.
    pub async fn erase_step(&self) -> Result<bool, StoreError> {
        self.query("select headcount.erase_step() from headcount.rules").value().await
    }
}
