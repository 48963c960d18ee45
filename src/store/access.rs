//! Revokes the tokens of users, and reads which are revoked.

use time::OffsetDateTime;

use super::{Store, StoreError};
use crate::domain::id::UserId;

const REVOKE: &str = "select headcount.revoke($1) from headcount.rules";

const CHANGES: &str = "select s.changes from headcount.access_state s";

const REVOKED: &str =
    "select r.user_id, ceil(extract(epoch from r.not_before))::bigint from headcount.revocations r";

impl Store {
    /// Ends a user's sessions, and revokes their tokens. Returns from when on a token must be issued.
    pub async fn revoke(&self, user: &UserId) -> Result<OffsetDateTime, StoreError> {
        self.query(REVOKE).bind(user.as_str()).value().await
    }

    /// A counter that rises with every change of who is refused.
    pub async fn access_changes(&self) -> Result<i64, StoreError> {
        self.query(CHANGES).value().await
    }

    /// The users whose tokens were ever revoked, and the seconds since 1970 from which on they must be issued. A row
    /// whose user no token can name is left out.
    pub async fn revocations(&self) -> Result<Vec<(UserId, i64)>, StoreError> {
        let rows: Vec<(String, i64)> = self.query(REVOKED).rows().await?;
        Ok(rows.into_iter().filter_map(|(user, from)| Some((UserId::parse(&user).ok()?, from))).collect())
    }
}
