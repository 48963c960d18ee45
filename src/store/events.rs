//! Reads the event log.

use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::types::Json;

use super::decode::{self, EventKind, counted};
use super::{Store, StoreError};
use crate::domain::cursor::Cursor;
use crate::domain::event::{Change, Event};
use crate::domain::hint::{Hint, Mark};
use crate::domain::id::{RoomId, UserId};

/// Events of one room that a read returns at most. For a larger lag, reading the whole roster is cheaper.
pub const EVENTS_MAX: i64 = 5000;

/// The part of a room's log after a position.
#[derive(Debug)]
pub struct Tail {
    /// The room's head when this was read.
    pub head: Cursor,
    /// The events after the position, oldest first: all of them when `complete`.
    pub events: Vec<Event>,
    /// Age of the oldest of the events when this was read, by the database's clock.
    pub age: Duration,
    /// Whether `events` reach from the position to the head without a gap.
    pub complete: bool,
}

/// A function in the database, because the query needs planner settings of its own. `$5` limits it to recent days.
const TAILS: &str = "select n, epoch, head, version, kind, user_id, member, reason, age \
     from headcount.tails($1, $2, $3, $4, $5)";

type TailRow = (
    i64,
    String,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<Json<Box<RawValue>>>,
    Option<String>,
    Option<f64>,
);

/// A room in which users changed.
#[derive(Debug)]
pub struct Mover {
    /// The room.
    pub room: RoomId,
    /// Its mark, if it has one.
    pub mark: Option<Mark>,
    /// The version up to which the log was read.
    pub version: i64,
    /// The users.
    pub users: Vec<UserId>,
}

/// For each hinted room, the users that changed after a version, or in the last 500 events: no batch of commands logs
/// more, and the rest of a larger transaction, such as a sweep, is found by the periodic look-up of every user. The last
/// event is always reread: after a failover a room may be behind the version noted. Limited to the last day, so that older
/// partitions are not scanned.
const MOVERS: &str = "select r.room_id, r.mark, max(e.version), array_agg(distinct e.user_id) \
     from unnest($1::text[], $2::bigint[], $3::bigint[]) w (room_id, mark, version) \
     cross join lateral ( \
         select r.room_id, r.mark, r.version from headcount.rooms r where r.room_id = w.room_id \
         union all \
         select r.room_id, r.mark, r.version from headcount.rooms r where r.mark = w.mark \
     ) r \
     cross join lateral ( \
         select e.version, e.user_id from headcount.events e \
         where e.room_id = r.room_id and e.version > least(coalesce(w.version, r.version - 500), r.version - 1) \
           and e.at > now() - interval '1 day' and e.at < now() + interval '1 minute' \
         order by e.version limit $4 \
     ) e \
     group by r.room_id, r.mark";

impl Store {
    /// The users that changed in hinted rooms, each after the version up to which its log was read, if it was. A room or a
    /// user whose id is none is left out: nobody follows them.
    pub async fn movers(&self, hints: &[(Hint, Option<i64>)]) -> Result<Vec<Mover>, StoreError> {
        let (mut rooms, mut marks) = (Vec::new(), Vec::new());
        for (hint, _) in hints {
            let (room, mark) = match hint {
                Hint::Room(room) => (Some(room.as_str()), None),
                Hint::Mark(mark) => (None, Some(mark.0)),
            };
            rooms.push(room);
            marks.push(mark);
        }
        let versions: Vec<Option<i64>> = hints.iter().map(|(_, version)| *version).collect();
        let rows: Vec<(String, Option<i64>, i64, Vec<String>)> =
            self.query(MOVERS).bind(rooms).bind(marks).bind(versions).bind(EVENTS_MAX).rows().await?;
        let mover = |(room, mark, version, users): (String, Option<i64>, i64, Vec<String>)| {
            let room = counted("watchlists", decode::room(&room)).ok()?;
            let users =
                users.iter().filter_map(|user| counted("watchlists", decode::user(user)).ok()).collect();
            Some(Mover { room, mark: mark.map(Mark), version, users })
        };
        Ok(rows.into_iter().filter_map(mover).collect())
    }

    /// For each position that lags behind its room: its index, and the events after it. All are read from one snapshot. An
    /// event that cannot be decoded fails the tails of its room, and no others.
    pub async fn tails(&self, positions: &[(RoomId, Cursor)]) -> Result<Vec<IndexedTail>, StoreError> {
        let recent = self.tails_of(positions, true).await?;
        // The position lags by days, or the log was trimmed. Only a read of the whole log can tell which.
        let short = |(index, tail): &IndexedTail| {
            tail.as_ref().is_ok_and(|tail| {
                tail.head.epoch == positions[*index].1.epoch
                    && !tail.complete
                    && tail.head.version - positions[*index].1.version <= EVENTS_MAX
            })
        };
        if recent.iter().any(short) { self.tails_of(positions, false).await } else { Ok(recent) }
    }

    async fn tails_of(
        &self,
        positions: &[(RoomId, Cursor)],
        recent: bool,
    ) -> Result<Vec<IndexedTail>, StoreError> {
        let rooms: Vec<&str> = positions.iter().map(|(room, _)| room.as_str()).collect();
        let epochs: Vec<&str> = positions.iter().map(|(_, cursor)| cursor.epoch.as_str()).collect();
        let versions: Vec<i64> = positions.iter().map(|(_, cursor)| cursor.version).collect();
        let rows: Vec<TailRow> = self
            .query(TAILS)
            .bind(rooms)
            .bind(epochs)
            .bind(&versions)
            .bind(EVENTS_MAX)
            .bind(recent)
            .rows()
            .await?;
        Ok(collect(rows, &versions))
    }
}

/// The place of a position in the list, and the tail after it.
pub type IndexedTail = (usize, Result<Tail, StoreError>);

fn collect(rows: Vec<TailRow>, versions: &[i64]) -> Vec<IndexedTail> {
    let mut tails: Vec<IndexedTail> = Vec::new();
    let mut reached = 0;
    for row in rows {
        let index = decode::index(row.0);
        if tails.last().is_none_or(|(last, _)| *last != index) {
            tails.push((index, counted("feed", begin(&row))));
            reached = versions[index];
        }
        if let Some((_, tail)) = tails.last_mut()
            && let Ok(open) = tail
            && let Err(error) = extend(open, row, &mut reached)
        {
            *tail = counted("feed", Err(error));
        }
    }
    tails
}

fn begin((_, epoch, head, .., age): &TailRow) -> Result<Tail, StoreError> {
    let head = Cursor { epoch: decode::epoch(epoch)?, version: *head };
    let age = Duration::try_from_secs_f64(age.unwrap_or_default()).unwrap_or_default(); // set back: negative
    Ok(Tail { head, events: Vec::new(), age, complete: false })
}

fn extend(tail: &mut Tail, row: TailRow, reached: &mut i64) -> Result<(), StoreError> {
    let (_, _, _, Some(version), Some(kind), Some(user), member, reason, _) = row else {
        return Ok(());
    };
    if version != *reached + 1 {
        return Ok(()); // a gap: the log was trimmed
    }
    *reached = version;
    tail.complete = version == tail.head.version;
    let member = member.as_ref().map(|Json(raw)| raw.get());
    if let Some(change) = change(decode::event_kind(&kind, reason.as_deref())?, member)? {
        tail.events.push(Event { version, user: decode::user(&user)?, change });
    }
    Ok(())
}

/// None for an event whose member was erased. The `left` of the erasure comes later in the log.
fn change(kind: EventKind, member: Option<&str>) -> Result<Option<Change>, StoreError> {
    let member = || member.map(decode::member).transpose();
    Ok(match kind {
        EventKind::Joined => member()?.map(Change::Joined),
        EventKind::Updated => member()?.map(Change::Updated),
        EventKind::Left(reason) => Some(Change::Left(reason)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, reason: Option<&str>, member: Option<&str>) -> TailRow {
        let member = member.map(|text| Json(RawValue::from_string(text.to_owned()).unwrap()));
        let (kind, reason) = (Some(kind.to_owned()), reason.map(str::to_owned));
        (1, "00000001abcd".to_owned(), 1, Some(1), kind, Some("ann".to_owned()), member, reason, Some(0.0))
    }

    #[test]
    fn an_erased_member_is_left_out_and_one_that_is_not_understood_is_a_bug() {
        let read = |row| collect(vec![row], &[0]).remove(0).1;
        assert!(read(row("joined", None, None)).unwrap().events.is_empty());
        assert_eq!(read(row("left", Some("kicked"), None)).unwrap().events.len(), 1);
        for strange in
            [row("joined", None, Some("{}")), row("left", Some("bored"), None), row("moved", None, None)]
        {
            assert!(matches!(read(strange), Err(StoreError::Bug(_))));
        }
    }

    #[test]
    fn what_is_not_understood_in_one_room_fails_no_other() {
        let of = |n, row: TailRow| (n, row.1, row.2, row.3, row.4, row.5, row.6, row.7, row.8);
        let rows = vec![of(1, row("moved", None, None)), of(2, row("left", Some("left"), None))];
        let tails = collect(rows, &[0, 0]);
        assert!(tails[0].1.is_err());
        assert_eq!(tails[1].1.as_ref().unwrap().events.len(), 1);
    }
}
