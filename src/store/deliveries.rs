//! What webhooks are sent: who delivers, what is due in which rooms, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::decode::{self, EventKind};
use super::{Store, StoreError};
use crate::domain::id::RoomId;
use crate::domain::notice::{Advance, Due, EVENTS_MAX, Entry, Later, LoggedChange, Notice, RoomPosition};
use crate::domain::webhook::Topic;

/// After so many events of a room it is not looked any further whether somebody came back.
const LOOK_AHEAD: i64 = 20_000;

/// What a look found.
#[derive(Debug, sqlx::FromRow)]
pub struct WebhookTick {
    /// Whether there is an enabled webhook at all.
    pub enabled: bool,
    /// Whether there is more to look at.
    pub more: bool,
    /// Webhooks that have something to do, and are now ours.
    pub claimed: Vec<String>,
}

/// One of them, as long as a claim holds.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The webhook.
    pub name: String,
    /// Which claim.
    pub id: Uuid,
}

/// A webhook that is ours for another lease.
#[derive(sqlx::FromRow)]
pub struct ClaimedWebhook {
    /// Where it leads.
    pub url: String,
    /// What it is told.
    #[sqlx(try_from = "Vec<String>")]
    pub types: Topics,
    /// A leave waits so many milliseconds.
    pub leave_delay_ms: i64,
    /// What signs.
    pub secrets: Vec<String>,
    /// Failed attempts since the last that was accepted.
    pub attempts: i32,
    /// The database's clock.
    pub now: OffsetDateTime,
    /// What is to be sent, if that is decided.
    #[sqlx(flatten)]
    pub batch: Pending,
}

/// What a webhook is told.
#[derive(Clone, Debug)]
pub struct Topics(pub Vec<Topic>);

impl TryFrom<Vec<String>> for Topics {
    type Error = StoreError;

    /// A topic that this build does not know is not left out: whoever knows it claims the webhook next.
    fn try_from(texts: Vec<String>) -> Result<Self, StoreError> {
        let topic = |text: &String| Topic::parse(text).ok_or_else(|| StoreError::unknown("topic", text));
        texts.iter().map(topic).collect::<Result<_, _>>().map(Self)
    }
}

/// What is to be sent; all or none are there.
#[derive(sqlx::FromRow)]
pub struct Pending {
    /// Its id.
    pub batch_id: Option<Uuid>,
    /// When it was decided.
    pub made_at: Option<OffsetDateTime>,
    /// The notices, as JSON.
    pub events: Option<Json<Box<RawValue>>>,
}

/// A room's cursor, moved.
#[derive(Serialize)]
struct MovedCursor<'a> {
    room_id: &'a RoomId,
    epoch: &'a str,
    from: i64,
    version: i64,
    count: i32,
    returns: &'a [i64],
    occupies: Option<i64>,
    #[serde(with = "crate::domain::timestamp")]
    due_at: OffsetDateTime,
    #[serde(serialize_with = "crate::domain::timestamp::option::serialize")]
    since: Option<OffsetDateTime>,
}

// Rooms that have waited longest, until their events fill a batch; of one room that is pending in two epochs the older.
const DUE: &str = "select r.room_id, r.epoch, r.version as \"from\", r.head, r.count, r.returns, r.occupies, \
            e.version, e.kind, e.user_id, e.member, e.reason, e.at, e.next_version, e.next_at, e.following_at \
     from ( \
         select * from ( \
             select o.*, sum(o.head - o.version) over (order by o.due_at, o.room_id) - (o.head - o.version) as before \
             from ( \
                 select * from headcount.webhook_rooms w \
                 where w.name = $1 and (w.due_at <= clock_timestamp() or w.due_at > clock_timestamp() + interval '10 min') \
                   and not exists ( \
                       select from headcount.webhook_rooms older \
                       where older.name = w.name and older.room_id = w.room_id and older.seq < w.seq \
                   ) \
                 order by w.due_at, w.room_id limit $2 \
             ) o \
         ) s where s.before < $2 \
         offset 0 \
     ) r \
     left join lateral ( \
         select * from ( \
             select l.*, lead(l.version) over same_user as next_version, lead(l.at) over same_user as next_at, \
                    lead(l.at) over (order by l.version) as following_at \
             from ( \
                 select e.version, e.kind, e.user_id, e.member, e.reason, e.at from headcount.events e \
                 where e.room_id = r.room_id and e.version > r.version and e.version <= r.head \
                 order by e.version limit $2 + $3 \
             ) l \
             window same_user as (partition by l.user_id order by l.version) \
         ) l \
         order by l.version limit $2 \
     ) e on true \
     order by r.due_at, r.room_id, e.version";

#[derive(sqlx::FromRow)]
struct DueRow {
    room_id: String,
    epoch: String,
    from: i64,
    head: i64,
    count: i32,
    returns: Vec<i64>,
    occupies: Option<i64>,
    version: Option<i64>,
    kind: Option<String>,
    user_id: Option<String>,
    member: Option<Json<Box<RawValue>>>,
    reason: Option<String>,
    at: Option<OffsetDateTime>,
    next_version: Option<i64>,
    next_at: Option<OffsetDateTime>,
    following_at: Option<OffsetDateTime>,
}

impl Store {
    /// Gives what happened to the webhooks that want it, and claims those that nobody delivers.
    pub async fn tick_webhooks(&self, claim: Uuid) -> Result<WebhookTick, StoreError> {
        self.query("select t.* from headcount.rules, headcount.webhook_tick($1, $2) t")
            .bind(claim)
            .bind(self.replica())
            .row()
            .await
    }

    /// Holds a claim for another lease; none when it is lost, or the webhook is disabled.
    pub async fn hold_webhook(&self, claim: &Claim) -> Result<Option<ClaimedWebhook>, StoreError> {
        self.query("select * from headcount.webhook_hold($1, $2)")
            .bind(&claim.name)
            .bind(claim.id)
            .row_if_any()
            .await
    }

    /// What is due, at most about a batch of it. Looks further only where a leave may be taken back.
    pub async fn due_notices(&self, claim: &Claim, delay: Duration) -> Result<Vec<Due>, StoreError> {
        let look_ahead = if delay.is_zero() { 0 } else { LOOK_AHEAD };
        let limit = i64::try_from(EVENTS_MAX).expect("a small number");
        let rows: Vec<DueRow> = self.query(DUE).bind(&claim.name).bind(limit).bind(look_ahead).rows().await?;
        collect(rows)
    }

    /// How many members a room had at a version.
    pub async fn members_at(&self, room: &RoomId, version: i64) -> Result<i32, StoreError> {
        self.query("select headcount.webhook_members($1, $2)").bind(room.as_str()).bind(version).value().await
    }

    /// Decides what is sent next, and moves the cursors past it. Gives whether the claim held.
    pub async fn make_batch(
        &self,
        claim: &Claim,
        notices: &[Notice],
        moved: &[(&Due, Advance)],
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let progress: Vec<MovedCursor<'_>> =
            moved.iter().map(|(due, moved)| progress(due, moved, now)).collect();
        self.query("select headcount.webhook_make($1, $2, $3, $4, $5) from headcount.rules")
            .bind(&claim.name)
            .bind(claim.id)
            .bind(Uuid::new_v4())
            .bind(Json(serde_json::value::to_raw_value(notices).map_err(encoding)?))
            .bind(Json(serde_json::value::to_raw_value(&progress).map_err(encoding)?))
            .value()
            .await
    }

    /// The receiver has it.
    pub async fn accept_batch(&self, claim: &Claim, batch: Uuid) -> Result<(), StoreError> {
        self.query("select headcount.webhook_accept($1, $2)").bind(&claim.name).bind(batch).run().await
    }

    /// The receiver does not have it; it is tried again after a while, by anybody.
    pub async fn fail_batch(&self, claim: &Claim, error: &str, retry: Duration) -> Result<(), StoreError> {
        self.query("select headcount.webhook_fail($1, $2, $3, $4)")
            .bind(&claim.name)
            .bind(claim.id)
            .bind(error)
            .bind(retry)
            .run()
            .await
    }

    /// The receiver wants no more: the webhook is disabled, and what it had still to tell is forgotten.
    pub async fn disable_gone(&self, claim: &Claim, error: &str) -> Result<(), StoreError> {
        self.query("select headcount.webhook_gone($1, $2, $3) from headcount.rules")
            .bind(&claim.name)
            .bind(claim.id)
            .bind(error)
            .run()
            .await
    }

    /// There is nothing to do now.
    pub async fn release_webhook(&self, claim: &Claim) -> Result<(), StoreError> {
        self.query("select headcount.webhook_release($1, $2)").bind(&claim.name).bind(claim.id).run().await
    }
}

fn encoding(error: serde_json::Error) -> StoreError {
    StoreError::Bug(sqlx::Error::Encode(error.into()))
}

fn progress<'a>(due: &'a Due, moved: &'a Advance, now: OffsetDateTime) -> MovedCursor<'a> {
    MovedCursor {
        room_id: &due.room,
        epoch: due.epoch.as_str(),
        from: due.position.version,
        version: moved.position.version,
        count: moved.position.count,
        returns: &moved.position.returns,
        occupies: moved.position.occupies,
        due_at: moved.held_until.unwrap_or(now), // behind the others that wait
        since: moved.since,
    }
}

fn collect(rows: Vec<DueRow>) -> Result<Vec<Due>, StoreError> {
    let mut found: Vec<Due> = Vec::new();
    for mut row in rows {
        let known = |due: &Due| due.room.as_str() == row.room_id;
        if !found.last().is_some_and(known) {
            found.push(Due {
                room: decode::room(&row.room_id)?,
                epoch: decode::epoch(&row.epoch)?,
                position: RoomPosition {
                    version: row.from,
                    count: row.count,
                    returns: std::mem::take(&mut row.returns),
                    occupies: row.occupies,
                },
                head: row.head,
                entries: Vec::new(),
                count_after_gap: None,
            });
        }
        if let (Some(due), Some(entry)) = (found.last_mut(), entry(row)?) {
            due.entries.push(entry);
        }
    }
    Ok(found)
}

/// None where the log holds nothing any more.
fn entry(row: DueRow) -> Result<Option<Entry>, StoreError> {
    let (Some(version), Some(kind), Some(user), Some(at)) = (row.version, row.kind, row.user_id, row.at)
    else {
        return Ok(None);
    };
    let member = row.member.map(|Json(member)| Arc::from(member));
    let change = match decode::event_kind(&kind, row.reason.as_deref())? {
        EventKind::Joined => LoggedChange::Joined(member),
        EventKind::Updated => LoggedChange::Updated(member),
        EventKind::Left(reason) => LoggedChange::Left(reason),
    };
    let next = row.next_version.zip(row.next_at).map(|(version, at)| Later { version, at });
    let user = decode::user(&user)?;
    Ok(Some(Entry { version, user, change, at, next, following_at: row.following_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_nobody_knows_is_a_bug_and_not_left_out() {
        let topics =
            |texts: &[&str]| Topics::try_from(texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        assert_eq!(topics(&["member.joined"]).unwrap().0, [Topic::MemberJoined]);
        assert!(matches!(topics(&["member.joined", "member.waved"]), Err(StoreError::Bug(_))));
    }
}
