//! Delivery of webhooks: claims by replicas, the events that are due in each room, the batch that is sent, its result.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::decode::{self, EventKind, counted};
use super::{Store, StoreError};
use crate::domain::id::RoomId;
use crate::domain::notice::{Advance, Due, EVENTS_MAX, Entry, Later, LoggedChange, Notice, RoomPosition};
use crate::domain::webhook::Topic;

/// How many events of a room to read ahead for a join that takes a delayed leave back.
const LOOK_AHEAD: i64 = 20_000;

/// The result of one look at the outbox.
#[derive(Debug, sqlx::FromRow)]
pub struct WebhookTick {
    /// Whether there is an enabled webhook at all.
    pub enabled: bool,
    /// Whether the outbox holds more.
    pub more: bool,
    /// Webhooks that have something to send, claimed by this replica now.
    pub claimed: Vec<String>,
}

/// A claim of a webhook, valid for as long as its lease.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Name of the webhook.
    pub name: String,
    /// Id of the claim.
    pub id: Uuid,
}

/// A webhook whose claim was renewed for another lease.
#[derive(sqlx::FromRow)]
pub struct ClaimedWebhook {
    /// Address of the receiver.
    pub url: String,
    /// Topics that it subscribes to.
    #[sqlx(try_from = "Vec<String>")]
    pub types: Topics,
    /// Milliseconds that a leave is held back, in case the user comes back.
    pub leave_delay_ms: i64,
    /// Secrets that sign messages.
    pub secrets: Vec<String>,
    /// Failed attempts since the last accepted one, from which the backoff is computed.
    pub attempts: i32,
    /// The database's clock.
    pub now: OffsetDateTime,
    /// The stored batch, if there is one.
    #[sqlx(flatten)]
    pub batch: Pending,
}

/// Topics that a webhook subscribes to.
#[derive(Clone, Debug)]
pub struct Topics(pub Vec<Topic>);

impl TryFrom<Vec<String>> for Topics {
    type Error = StoreError;

    /// An unknown topic is an error and is not skipped, so that a replica of a newer build, which knows the topic,
    /// claims the webhook next.
    fn try_from(texts: Vec<String>) -> Result<Self, StoreError> {
        let topic = |text: &String| Topic::parse(text).ok_or_else(|| StoreError::unknown("topic", text));
        texts.iter().map(topic).collect::<Result<_, _>>().map(Self)
    }
}

/// The batch to send. Either all fields are present or none.
#[derive(sqlx::FromRow)]
pub struct Pending {
    /// Its id.
    pub batch_id: Option<Uuid>,
    /// When the batch was made.
    pub made_at: Option<OffsetDateTime>,
    /// The notices, as JSON.
    pub events: Option<Json<Box<RawValue>>>,
}

/// A room's cursor after a batch.
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

// What the log has still to forget is not told (`functions/erase.sql`).
// Takes the rooms that have waited longest, until their events fill a batch. A room that is pending in two epochs is
// taken in the older one.
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
                 select e.version, e.kind, e.user_id, e.reason, e.at, case when not exists ( \
                     select from headcount.erasures x where x.user_id = e.user_id and e.at <= x.asked_at \
                 ) then e.member end as member \
                 from headcount.events e \
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
    /// Routes events from the outbox to the webhooks that want them, and claims webhooks that no replica delivers.
    pub async fn tick_webhooks(&self, claim: Uuid) -> Result<WebhookTick, StoreError> {
        self.query("select t.* from headcount.rules, headcount.webhook_tick($1, $2) t")
            .bind(claim)
            .bind(self.replica())
            .row()
            .await
    }

    /// Renews a claim for another lease; none when the claim is lost or the webhook is disabled.
    pub async fn hold_webhook(&self, claim: &Claim) -> Result<Option<ClaimedWebhook>, StoreError> {
        self.query("select * from headcount.webhook_hold($1, $2)")
            .bind(&claim.name)
            .bind(claim.id)
            .row_if_any()
            .await
    }

    /// The events that are due, about one batch at most. Reads ahead only if a leave can be taken back.
    pub async fn due_notices(&self, claim: &Claim, delay: Duration) -> Result<Vec<Due>, StoreError> {
        let look_ahead = if delay.is_zero() { 0 } else { LOOK_AHEAD };
        let limit = i64::try_from(EVENTS_MAX).expect("a small number");
        let rows: Vec<DueRow> = self.query(DUE).bind(&claim.name).bind(limit).bind(look_ahead).rows().await?;
        Ok(collect(rows))
    }

    /// The number of members that a room had at a version.
    pub async fn members_at(&self, room: &RoomId, version: i64) -> Result<i32, StoreError> {
        self.query("select headcount.webhook_members($1, $2)").bind(room.as_str()).bind(version).value().await
    }

    /// Stores the next batch and moves the cursors past it, in one transaction, so that a retry sends the same batch.
    /// Returns whether the claim was still valid.
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

    /// Records that the receiver accepted a batch.
    pub async fn accept_batch(&self, claim: &Claim, batch: Uuid) -> Result<(), StoreError> {
        self.query("select headcount.webhook_accept($1, $2)").bind(&claim.name).bind(batch).run().await
    }

    /// Records a failed attempt, and schedules the retry after a backoff. Any replica may make it.
    pub async fn fail_batch(&self, claim: &Claim, error: &str, retry: Duration) -> Result<(), StoreError> {
        self.query("select headcount.webhook_fail($1, $2, $3, $4)")
            .bind(&claim.name)
            .bind(claim.id)
            .bind(error)
            .bind(retry)
            .run()
            .await
    }

    /// Disables a webhook whose receiver answered 410 Gone, and drops what was still pending.
    pub async fn disable_gone(&self, claim: &Claim, error: &str) -> Result<(), StoreError> {
        self.query("select headcount.webhook_gone($1, $2, $3) from headcount.rules")
            .bind(&claim.name)
            .bind(claim.id)
            .bind(error)
            .run()
            .await
    }

    /// Gives a claim up, because nothing is left to send now.
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
        due_at: moved.held_until.unwrap_or(now), // behind the rooms that already wait
        since: moved.since,
    }
}

/// An event that cannot be decoded is left out: it is told as a gap of its room. So is a room that cannot.
fn collect(rows: Vec<DueRow>) -> Vec<Due> {
    let mut found: Vec<Due> = Vec::new();
    for mut row in rows {
        let known = |due: &Due| due.room.as_str() == row.room_id;
        if !found.last().is_some_and(known) {
            let Ok(due) = counted("webhooks", begin(&mut row)) else { continue };
            found.push(due);
        }
        if let (Some(due), Ok(Some(entry))) = (found.last_mut(), counted("webhooks", entry(row))) {
            due.entries.push(entry);
        }
    }
    found
}

fn begin(row: &mut DueRow) -> Result<Due, StoreError> {
    Ok(Due {
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
    })
}

/// None where the log has been trimmed.
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
