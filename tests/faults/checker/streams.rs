//! P5, P6 and equality at rest: what each stream told is what the log says, frame by frame.
//!
//! Frames of the last epoch are compared with the log; those of older ones only with each other, because what was
//! lost at the failover is in no log any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::recording::{Cursor, Frame, FrameEvent};
use super::indexed::{Indexed, Stream};
use super::room::{Net, Room};
use super::{Found, Promise};

/// P5: versions strictly increase and every gap is announced. P6: a stream that was resumed goes on where the
/// client was, or says why not. At rest every open stream knows the roster.
pub fn tell_the_log(run: &Indexed<'_>, found: &mut Found) {
    let mut clients: BTreeMap<(&str, &str), Known> = BTreeMap::new();
    for stream in &run.streams {
        let Some(room) = run.rooms.get(stream.room) else { continue };
        let before = clients.remove(&(stream.client, stream.room)).unwrap_or_default();
        let mut reader = Reader::new(run, stream, room, before);
        stream.frames.iter().for_each(|(at, frame)| reader.read(*at, frame, found));
        reader.rest(found);
        clients.insert((stream.client, stream.room), reader.known);
    }
}

/// What a client knows of a room.
#[derive(Clone, Default)]
struct Known {
    cursor: Option<Cursor>,
    /// None when it was only told a count, or came with a cursor of unknown origin.
    members: Option<BTreeSet<String>>,
    bye: Option<String>,
}

struct Reader<'r, 'a> {
    run: &'r Indexed<'a>,
    stream: &'r Stream<'a>,
    room: &'r Room<'a>,
    known: Known,
    /// No frame with a cursor yet.
    first: bool,
    cut_for_slowness: bool,
}

impl<'r, 'a> Reader<'r, 'a> {
    fn new(run: &'r Indexed<'a>, stream: &'r Stream<'a>, room: &'r Room<'a>, before: Known) -> Self {
        let cut_for_slowness = before.bye.as_deref() == Some("slow");
        let cursor = stream.last.cloned();
        let members = match &cursor {
            None => None,
            same if *same == before.cursor => before.members,
            Some(last) => (last.epoch == room.epoch).then(|| owned(&room.fold(last.version))),
        };
        Self { run, stream, room, known: Known { cursor, members, bye: None }, first: true, cut_for_slowness }
    }

    fn read(&mut self, at: Duration, frame: &Frame, found: &mut Found) {
        let wrong = if self.known.bye.is_some() {
            Some("a frame after the bye".to_owned())
        } else {
            match (frame.event, &frame.cursor) {
                (FrameEvent::Bye, _) => {
                    self.known.bye = Some(frame.reason.clone().unwrap_or_default());
                    None
                }
                (_, None) => Some("a frame without a cursor".to_owned()),
                (event, Some(cursor)) => {
                    found.summary.frames_of_older_epochs += usize::from(!self.comparable(cursor));
                    let wrong = match event {
                        FrameEvent::Sync => self.sync(cursor),
                        FrameEvent::Diff => self.diff(frame, cursor),
                        _ => self.whole(frame, cursor),
                    };
                    self.known.cursor = Some(cursor.clone());
                    wrong
                }
            }
        };
        if let Some(wrong) = wrong {
            let resumed = self.first && self.stream.last.is_some();
            let promise = if resumed { Promise::P6Resumable } else { Promise::P5OrderedStreams };
            let text = format!("{} by stream {}: {wrong}", self.stream.client, frame.stream);
            found.add(promise, at, self.stream.room, text);
        }
        self.first &= frame.event == FrameEvent::Bye;
    }

    fn comparable(&self, cursor: &Cursor) -> bool {
        cursor.epoch == self.room.epoch
    }

    /// A sync is at the position that was told; past it only when nothing happened in between.
    fn sync(&self, cursor: &Cursor) -> Option<String> {
        let known = match &self.known.cursor {
            Some(known) if known.epoch == cursor.epoch => known,
            known => return Some(format!("a sync at {cursor} after {known:?}")),
        };
        let silent =
            || self.comparable(cursor) && self.room.net(known.version, cursor.version) == Net::default();
        let fits = cursor.version == known.version || cursor.version > known.version && silent();
        (!fits).then(|| format!("a sync at {cursor} after {known}"))
    }

    /// A diff is exactly what the log says between the position before and its own.
    fn diff(&mut self, frame: &Frame, cursor: &Cursor) -> Option<String> {
        let known = match &self.known.cursor {
            Some(known) if known.epoch == cursor.epoch && known.version < cursor.version => known.clone(),
            known => return Some(format!("a diff to {cursor} from {known:?}")),
        };
        let foldable = self.fold(frame);
        let told = Net { joined: ids(&frame.joined), updated: ids(&frame.updated), left: ids(&frame.left) };
        let net = self.room.net(known.version, cursor.version);
        if self.comparable(cursor) && told != net {
            return Some(format!("{told:?} from {known} to {cursor}, the log says {net:?}"));
        }
        (!foldable).then(|| format!("{told:?} to {cursor} does not fit what was known"))
    }

    fn fold(&mut self, frame: &Frame) -> bool {
        let Some(members) = &mut self.known.members else { return true };
        let joined = frame.joined.iter().all(|user| members.insert(user.clone()));
        let updated = frame.updated.iter().all(|user| members.contains(user));
        let left = frame.left.iter().all(|user| members.remove(user));
        joined && updated && left
    }

    /// A snapshot, a presence or a count replaces everything; a snapshot says why it was needed.
    fn whole(&mut self, frame: &Frame, cursor: &Cursor) -> Option<String> {
        let position = self.known.cursor.take();
        let back = position.as_ref().is_some_and(|known| {
            !self.first && known.epoch == cursor.epoch && known.version >= cursor.version
        });
        let members = (frame.event != FrameEvent::Count).then(|| ids(&frame.members));
        let fold = self.room.fold(cursor.version);
        self.known.members = members.as_ref().map(owned);
        if back {
            Some(format!("{:?} at {cursor} after {position:?}", frame.event))
        } else if self.comparable(cursor) && members.as_ref().is_some_and(|members| *members != fold) {
            Some(format!("{members:?} at {cursor}, the log says {fold:?}"))
        } else if frame.event == FrameEvent::Snapshot && !self.may_restart(frame, position.as_ref(), cursor) {
            Some(format!("a snapshot at {cursor} after {position:?} for {:?}", frame.reason))
        } else {
            None
        }
    }

    /// Whether the reason given for a snapshot is true.
    fn may_restart(&self, frame: &Frame, position: Option<&Cursor>, cursor: &Cursor) -> bool {
        let Some(position) = position else {
            return frame.reason.as_deref() == Some("initial");
        };
        let same_epoch = position.epoch == cursor.epoch;
        match frame.reason.as_deref() {
            Some("epoch") => !same_epoch || self.first && position.version > cursor.version,
            Some("too_old") => {
                let oldest = self.room.log.first().map_or(0, |entry| entry.event.version);
                let trimmed = oldest > position.version + 1;
                same_epoch && (trimmed || cursor.version > position.version + self.run.settings.replay_max)
            }
            Some("slow") => self.first && self.cut_for_slowness,
            _ => false,
        }
    }

    /// At rest an open stream is at the head and knows the roster, unless it was only just opened.
    fn rest(&self, found: &mut Found) {
        let settings = self.run.settings;
        let waits = self.first && self.stream.opened + settings.deliver_within > settings.rest_at;
        if self.stream.ended().is_some() || waits {
            return;
        }
        let Some(rest) = self.room.rest else { return };
        let members: BTreeSet<String> = rest.members.iter().cloned().collect();
        let same = self.known.members.as_ref().is_none_or(|known| *known == members);
        if self.first || self.known.cursor.as_ref() != Some(&rest.cursor) || !same {
            let Known { cursor, members, .. } = &self.known;
            let text = format!(
                "{} is at {cursor:?} with {members:?}, the room at {}",
                self.stream.client, rest.cursor
            );
            found.add(Promise::EqualAtRest, settings.rest_at, self.stream.room, text);
        }
    }
}

fn ids(users: &[String]) -> BTreeSet<&str> {
    users.iter().map(String::as_str).collect()
}

fn owned(users: &BTreeSet<&str>) -> BTreeSet<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}
