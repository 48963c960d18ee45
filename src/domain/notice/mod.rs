//! Turns the log into notices for a webhook: which events become which notices, which leaves a delay
//! debounces, where a gap is announced. Every function takes what it needs, and returns the notices and the
//! new position.
//!
//! Notices are always in the order of the log. A leave that waits holds back later events of its room, and of
//! no other room.
//!
//! Bounded: a batch is at most [`EVENTS_MAX`] notices, one more if the last event also occupies or vacates
//! its room, and about [`BYTES_MAX`] bytes.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::cursor::{Cursor, Epoch};
use super::event::Reason;
use super::id::{RoomId, UserId};
use super::webhook::Topic;

/// Notices of a batch, at most.
pub const EVENTS_MAX: usize = 500;

/// Bytes of a batch, at most; an estimate.
pub const BYTES_MAX: usize = 256 * 1024;

/// A debounced leave waits this much longer than its delay: the join that cancels it has committed by then
/// and been seen.
pub const SLACK: Duration = Duration::from_millis(500);

/// A notice to a webhook: one event, or a gap.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Notice {
    /// An idempotency key: a notice that is sent again has the same id. Its format is not part of the
    /// contract.
    #[schema(example = "lobby:1f0c2a910.42")]
    pub id: String,
    /// The topic, or `log.gap`.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "member.joined")]
    pub kind: NoticeKind,
    /// The room.
    #[schema(value_type = String, example = "lobby")]
    pub room: RoomId,
    /// The position in the room's event log.
    #[schema(example = "1f0c2a910.42")]
    pub cursor: String,
    /// When it happened; of a `log.gap`, when it was found.
    #[serde(with = "super::timestamp")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    pub at: OffsetDateTime,
    /// Of a member notice: the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "ann")]
    pub user: Option<UserId>,
    /// Of `member.joined` and `member.updated`: the member afterwards, or null if the user has been erased
    /// since.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::member::Member>)]
    pub member: Option<Option<Arc<RawValue>>>,
    /// Of `member.left`: the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Members of the room afterwards. A member whose leave got no notice, because they come back in time,
    /// still counts. Absent in a `log.gap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    pub count: Option<i32>,
    /// Of a `log.gap`: the number of events of the room that get no notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 17)]
    pub missing: Option<i64>,
}

/// What a notice is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoticeKind {
    /// A topic that the webhook subscribes to.
    Topic(Topic),
    /// Events are missing in the log. Sent to every webhook, whatever its topics.
    Gap,
}

impl NoticeKind {
    /// Its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic(topic) => topic.as_str(),
            Self::Gap => "log.gap",
        }
    }
}

impl Serialize for NoticeKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The position of a webhook in the log of a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomPosition {
    /// Every event up to here has become a notice, or needs none.
    pub version: i64,
    /// Number of members at that version.
    pub count: i32,
    /// Versions of later joins that get no notice, because the leave before got none.
    pub returns: Vec<i64>,
    /// The version of a later join that gets no `room.occupied`, because no `room.vacated` was sent before.
    pub occupies: Option<i64>,
}

impl RoomPosition {
    /// The count as the webhook sees it: a member whose leave got no notice is still there.
    fn told_count(&self) -> i32 {
        self.count.max(0).saturating_add(i32::try_from(self.returns.len()).unwrap_or(i32::MAX))
    }
}

/// An event of the log, and what follows it there.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its version.
    pub version: i64,
    /// The user that changed.
    pub user: UserId,
    /// What happened.
    pub change: LoggedChange,
    /// Its time.
    pub at: OffsetDateTime,
    /// The user's next event in the room; after a leave it is a join.
    pub next: Option<Later>,
    /// Time of the room's next event, of any user.
    pub following_at: Option<OffsetDateTime>,
}

/// A later event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Later {
    /// Its version.
    pub version: i64,
    /// Its time.
    pub at: OffsetDateTime,
}

/// What happened, with the member as the log holds it; none if the user was erased since.
#[derive(Clone, Debug)]
pub enum LoggedChange {
    /// Became a member.
    Joined(Option<Arc<RawValue>>),
    /// Changed.
    Updated(Option<Arc<RawValue>>),
    /// Is no longer a member.
    Left(Reason),
}

/// A room with pending events.
#[derive(Clone, Debug)]
pub struct Due {
    /// The room.
    pub room: RoomId,
    /// The epoch in which its events were committed.
    pub epoch: Epoch,
    /// The position of the webhook.
    pub position: RoomPosition,
    /// The newest version that the log is known to have.
    pub head: i64,
    /// The events after the position, oldest first, as many as fit into a batch.
    pub entries: Vec<Entry>,
    /// Number of members before the first of the entries, or at the head if there are none. Read only if
    /// there is a gap.
    pub count_after_gap: Option<i32>,
}

impl Due {
    /// The version up to which events are no longer in the log, if there is a gap.
    pub fn gap_until(&self) -> Option<i64> {
        let found = self.entries.first().map_or(self.head, |entry| entry.version - 1);
        (found > self.position.version).then_some(found)
    }
}

/// The position of a webhook in a room after a batch was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advance {
    /// The new position.
    pub position: RoomPosition,
    /// The next event waits until then: a leave that is debounced.
    pub held_until: Option<OffsetDateTime>,
    /// The next event did not happen before this time, if that is known.
    pub since: Option<OffsetDateTime>,
}

/// What a webhook subscribes to.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The topics.
    pub topics: Vec<Topic>,
    /// A leave is debounced for this long: no notice if the same user comes back in time.
    pub delay: Duration,
}

/// A batch that is being built.
#[derive(Debug)]
pub struct Batch {
    subscription: Subscription,
    now: OffsetDateTime,
    bytes: usize,
    /// The notices to send.
    pub notices: Vec<Notice>,
}

/// What to do with an event.
enum Verdict {
    Tell,
    /// Skip the leave: the user comes back in time, by the join of this version.
    Returns(i64),
    Wait(OffsetDateTime),
}

impl Batch {
    /// An empty batch. `now` is the database's clock.
    pub fn new(subscription: Subscription, now: OffsetDateTime) -> Self {
        Self { subscription, now, bytes: 0, notices: Vec::new() }
    }

    /// Whether more fits.
    pub fn has_room(&self) -> bool {
        self.notices.len() < EVENTS_MAX && self.bytes < BYTES_MAX
    }

    /// Adds the pending events of a room, as far as they fit.
    pub fn add(&mut self, due: &Due) -> Advance {
        let mut advance = Advance { position: due.position.clone(), held_until: None, since: None };
        if let Some(until) = due.gap_until() {
            self.tell_gap(due, &mut advance.position, until);
        }
        for entry in &due.entries {
            advance.since = Some(entry.at);
            // A gap between two entries is announced when it comes first in a batch.
            if !self.has_room() || entry.version != advance.position.version + 1 {
                return advance;
            }
            match self.judge(entry) {
                Verdict::Tell => self.tell(due, &mut advance.position, entry),
                Verdict::Returns(version) => {
                    advance.position.count -= 1;
                    advance.position.returns.push(version);
                }
                Verdict::Wait(until) => {
                    advance.held_until = Some(until);
                    return advance;
                }
            }
            advance.position.version = entry.version;
        }
        advance
    }

    fn judge(&self, entry: &Entry) -> Verdict {
        if self.subscription.delay.is_zero() || !matches!(entry.change, LoggedChange::Left(_)) {
            return Verdict::Tell;
        }
        let until = entry.at + self.subscription.delay;
        match entry.next {
            Some(next) if next.at <= until => Verdict::Returns(next.version),
            Some(_) => Verdict::Tell,
            // A leave dated in the future is not waited for: the clock went back, by an unknown amount.
            None if self.now < until + SLACK && entry.at <= self.now + SLACK => Verdict::Wait(until + SLACK),
            None => Verdict::Tell,
        }
    }

    fn tell(&mut self, due: &Due, position: &mut RoomPosition, entry: &Entry) {
        match &entry.change {
            LoggedChange::Joined(member) => {
                position.count += 1;
                let told = position.returns.len();
                position.returns.retain(|version| *version != entry.version);
                if position.returns.len() < told {
                    return; // their leave got no notice
                }
                let count = position.told_count();
                self.push(due, entry, Topic::MemberJoined, count, Some(member.clone()), None);
                let known = position.occupies.take_if(|version| *version == entry.version).is_some();
                if count == 1 && !known {
                    self.push(due, entry, Topic::RoomOccupied, count, None, None);
                }
            }
            LoggedChange::Updated(member) => {
                self.push(
                    due,
                    entry,
                    Topic::MemberUpdated,
                    position.told_count(),
                    Some(member.clone()),
                    None,
                );
            }
            LoggedChange::Left(reason) => {
                position.count -= 1;
                let count = position.told_count();
                self.push(due, entry, Topic::MemberLeft, count, None, Some(*reason));
                if count == 0 {
                    match entry.following_at {
                        // The next event of an empty room is a join.
                        Some(at)
                            if !self.subscription.delay.is_zero()
                                && at <= entry.at + self.subscription.delay =>
                        {
                            position.occupies = Some(entry.version + 1);
                        }
                        _ => self.push(due, entry, Topic::RoomVacated, count, None, None),
                    }
                }
            }
        }
    }

    fn tell_gap(&mut self, due: &Due, position: &mut RoomPosition, until: i64) {
        let missing = until - position.version;
        *position = RoomPosition {
            version: until,
            count: due.count_after_gap.unwrap_or_default(),
            returns: Vec::new(),
            occupies: None,
        };
        let cursor = Cursor { epoch: due.epoch.clone(), version: until }.to_string();
        self.notices.push(Notice {
            id: format!("{}:{cursor}:gap", due.room),
            kind: NoticeKind::Gap,
            room: due.room.clone(),
            cursor,
            at: self.now,
            user: None,
            member: None,
            reason: None,
            count: None,
            missing: Some(missing),
        });
    }

    fn push(
        &mut self,
        due: &Due,
        entry: &Entry,
        topic: Topic,
        count: i32,
        member: Option<Option<Arc<RawValue>>>,
        reason: Option<Reason>,
    ) {
        if !self.subscription.topics.contains(&topic) {
            return;
        }
        let cursor = Cursor { epoch: due.epoch.clone(), version: entry.version }.to_string();
        let (suffix, user) = match topic {
            Topic::RoomOccupied => (":occupied", None),
            Topic::RoomVacated => (":vacated", None),
            _ => ("", Some(entry.user.clone())),
        };
        let id = format!("{}:{cursor}{suffix}", due.room);
        // The constant stands for the rest of a notice: names of fields, and times.
        let member_bytes = member.iter().flatten().map(|member| member.get().len()).sum::<usize>();
        self.bytes += member_bytes + 2 * id.len() + entry.user.as_str().len() + 150;
        let kind = NoticeKind::Topic(topic);
        let room = due.room.clone();
        self.notices.push(Notice {
            id,
            kind,
            room,
            cursor,
            at: entry.at,
            user,
            member,
            reason,
            count: Some(count),
            missing: None,
        });
    }
}

#[cfg(test)]
mod tests;
