//! A recording, indexed: requests with their answers, rooms with their logs, streams with their frames.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::super::recording::{
    Asked, Cursor, EventKind, Frame, FrameEvent, Kind, LoggedEvent, Outcome, Recording, RosterAtRest,
    Settings, What,
};
use super::room::{Entry, Room};

pub struct Indexed<'a> {
    pub settings: &'a Settings,
    pub recording: &'a Recording,
    /// In the order in which they were asked.
    pub ops: Vec<Op<'a>>,
    pub rooms: BTreeMap<&'a str, Room<'a>>,
    /// In the order in which they were opened.
    pub streams: Vec<Stream<'a>>,
    /// When the first cursor of a last epoch was seen in a room that had another one; none without failover.
    pub failover_over: Option<Duration>,
    by_member: BTreeMap<&'a str, BTreeMap<&'a str, Vec<usize>>>,
    by_session: BTreeMap<&'a str, Vec<usize>>,
    at_rest: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

/// A request.
pub struct Op<'a> {
    pub asked: &'a Asked,
    pub from: Duration,
    /// When it was answered, or when it can no longer happen.
    pub to: Duration,
    pub outcome: &'a Outcome,
    pub effect: Effect,
}

/// Whether the database that survived has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Done,
    /// Lost, unknown, acked in an older epoch, or overtaken by a newer `seq`.
    Possible,
    None,
}

pub struct Stream<'a> {
    pub client: &'a str,
    pub room: &'a str,
    pub last: Option<&'a Cursor>,
    pub opened: Duration,
    pub frames: Vec<(Duration, &'a Frame)>,
    pub closed: Option<Duration>,
}

/// Somebody saw a room at a version.
pub struct Sighting<'a> {
    pub room: &'a str,
    pub cursor: &'a Cursor,
    /// What was seen was not older than this; none when it may have been, as in a frame that was delayed.
    pub asked: Option<Duration>,
    pub seen: Duration,
}

impl Stream<'_> {
    /// When it ended: a bye is an end, whenever the client noticed it.
    pub fn ended(&self) -> Option<Duration> {
        let bye = self.frames.iter().find(|(_, frame)| frame.event == FrameEvent::Bye).map(|(at, _)| *at);
        bye.into_iter().chain(self.closed).min()
    }
}

impl Op<'_> {
    pub fn is(&self, kind: Kind) -> bool {
        self.asked.kind == kind
    }

    /// The answer's cursor, of a write.
    pub fn cursor(&self) -> Option<&Cursor> {
        match self.outcome {
            Outcome::Ok { cursor, .. } => Some(cursor),
            _ => None,
        }
    }

    /// Whether the answer says that this join made a member.
    pub fn created(&self) -> bool {
        self.is(Kind::Join) && matches!(self.outcome, Outcome::Ok { created: true, .. })
    }

    /// Whether the answer shows a member.
    pub fn shows_member(&self) -> bool {
        matches!(self.outcome, Outcome::Ok { member: true, .. })
    }

    pub fn acked(&self) -> bool {
        !matches!(self.outcome, Outcome::Problem { .. } | Outcome::Lost)
    }

    /// A 5xx may follow a first attempt that did commit.
    pub fn unknown(&self) -> bool {
        match self.outcome {
            Outcome::Lost => true,
            Outcome::Problem { status, .. } => {
                *status >= 500 || matches!(status, 408 | 409 | 423 | 425 | 429)
            }
            _ => false,
        }
    }

    /// Whether it may have taken effect between these.
    pub fn may_meet(&self, lo: Duration, hi: Duration) -> bool {
        self.effect != Effect::None && self.from <= hi && self.to >= lo
    }

    /// Whether it makes a session's membership in a room end, now or soon.
    pub fn ends_membership(&self) -> bool {
        matches!(self.asked.kind, Kind::Leave | Kind::LeaveGrace)
    }
}

impl<'a> Indexed<'a> {
    pub fn of(recording: &'a Recording) -> Self {
        let (ops, streams) = (requests(recording), streams(recording));
        let sightings = sightings(&ops, &streams);
        let rosters: HashMap<&str, &RosterAtRest> =
            recording.rosters.iter().map(|roster| (roster.room.as_str(), roster)).collect();
        // A room that nobody joined is at no rest; it has an epoch all the same, and no members.
        let seen = sightings.iter().map(|seen| (seen.room, seen.cursor.epoch.as_str()));
        let rest = rosters.iter().map(|(name, roster)| (*name, roster.cursor.epoch.as_str()));
        let epochs: HashMap<&str, &str> = seen.chain(rest).collect();
        let last = |s: &&Sighting<'_>| epochs.get(s.room).is_none_or(|epoch| *epoch == s.cursor.epoch);
        let forked: HashSet<&str> = sightings.iter().filter(|s| !last(s)).map(|s| s.room).collect();
        let failover_over =
            sightings.iter().filter(|s| forked.contains(s.room) && last(s)).map(|s| s.seen).min();
        let failover_over = failover_over.or((!forked.is_empty()).then_some(recording.settings.rest_at));
        let mut seen: HashMap<&str, Vec<&Sighting<'_>>> = HashMap::new();
        sightings.iter().filter(last).for_each(|s| seen.entry(s.room).or_default().push(s));
        let mut logs: BTreeMap<&str, Vec<&LoggedEvent>> = BTreeMap::new();
        let opened = streams.iter().map(|stream| stream.room);
        for room in epochs.keys().copied().chain(opened) {
            logs.entry(room).or_default();
        }
        recording.log.iter().for_each(|event| logs.entry(&event.room).or_default().push(event));
        let rooms = logs.into_iter().map(|(name, mut log)| {
            log.sort_by_key(|event| event.version);
            let seen = seen.get(name).map(Vec::as_slice).unwrap_or_default();
            let log = place(&recording.settings, &log, seen);
            let rest = rosters.get(name).copied();
            (name, Room::new(name, epochs.get(name).copied().unwrap_or_default(), rest, log))
        });
        let rooms = rooms.collect();
        let mut by_member = BTreeMap::<_, BTreeMap<_, Vec<_>>>::new();
        let mut by_session = BTreeMap::<_, Vec<_>>::new();
        for (index, op) in ops.iter().enumerate() {
            let Asked { user, session, room, .. } = op.asked;
            by_member.entry(room.as_str()).or_default().entry(user.as_str()).or_default().push(index);
            by_session.entry(session.as_str()).or_default().push(index);
        }
        by_session.remove("");
        let mut at_rest = BTreeMap::<_, BTreeSet<_>>::new();
        for row in &recording.presence {
            at_rest.entry(row.room.as_str()).or_default().insert(row.session.as_str());
        }
        let settings = &recording.settings;
        let mut run =
            Self { settings, recording, ops, rooms, streams, failover_over, by_member, by_session, at_rest };
        run.judge();
        run
    }

    /// Requests about a user in a room, in the order of asking.
    pub fn of_member(&self, room: &str, user: &str) -> impl Iterator<Item = &Op<'a>> {
        let ops = self.by_member.get(room).and_then(|users| users.get(user));
        ops.into_iter().flatten().map(|index| &self.ops[*index])
    }

    /// Whether a session was in a room at rest.
    pub fn is_there(&self, room: &str, session: &str) -> bool {
        self.at_rest.get(room).is_some_and(|sessions| sessions.contains(session))
    }

    /// Each session with its requests, in the order of asking.
    pub fn sessions(&self) -> impl Iterator<Item = (&'a str, Vec<&Op<'a>>)> {
        let ops = |indices: &Vec<usize>| indices.iter().map(|index| &self.ops[*index]).collect();
        self.by_session.iter().map(move |(session, indices)| (*session, ops(indices)))
    }

    /// Every sighting of a room at a version, in the order of seeing.
    pub fn sightings(&self) -> Vec<Sighting<'a>> {
        sightings(&self.ops, &self.streams)
    }

    /// The room's log, and whether the cursor is of the history that it tells.
    pub fn room(&self, name: &str, cursor: &Cursor) -> Option<(&Room<'a>, bool)> {
        self.rooms.get(name).map(|room| (room, room.epoch == cursor.epoch))
    }

    /// Sets what each request did.
    fn judge(&mut self) {
        let mut newest: HashMap<(&str, &str), Vec<(Duration, i64)>> = HashMap::new();
        for op in &self.ops {
            if let Some(seq) = op.asked.seq {
                newest.entry((&op.asked.session, &op.asked.room)).or_default().push((op.from, seq));
            }
        }
        for op in &mut self.ops {
            let key = (op.asked.session.as_str(), op.asked.room.as_str());
            let overtaken = op
                .asked
                .seq
                .is_some_and(|seq| newest[&key].iter().any(|(from, newer)| *newer > seq && *from <= op.to));
            let older = op.cursor().is_some_and(|cursor| {
                self.rooms.get(op.asked.room.as_str()).is_some_and(|room| room.epoch != cursor.epoch)
            });
            let unsure = overtaken || older && !survived(op, &self.rooms) || op.unknown();
            op.effect = match op.outcome {
                Outcome::Problem { .. } if !unsure => Effect::None,
                Outcome::Gone if self.failover_over.is_some_and(|over| op.to < over) => Effect::Possible,
                _ if unsure => Effect::Possible,
                _ => Effect::Done,
            };
        }
    }
}

/// Whether a join that was acked in an older epoch is in the log of the last one.
fn survived(op: &Op<'_>, rooms: &BTreeMap<&str, Room<'_>>) -> bool {
    let Some(room) = rooms.get(op.asked.room.as_str()) else { return false };
    op.created() && room.created_at(op).is_some()
}

fn requests(recording: &Recording) -> Vec<Op<'_>> {
    let mut answers = HashMap::new();
    for record in &recording.records {
        if let What::Answered { op, outcome } = &record.what {
            answers.entry(*op).or_insert((record.at, outcome));
        }
    }
    let asked = recording.records.iter().filter_map(|record| match &record.what {
        What::Asked(asked) => Some((record.at, asked)),
        _ => None,
    });
    let mut ops: Vec<Op<'_>> = asked
        .map(|(from, asked)| {
            let (at, outcome) = answers.get(&asked.op).copied().unwrap_or((from, &Outcome::Lost));
            let mut op = Op { asked, from, to: at, outcome, effect: Effect::Possible };
            if op.unknown() {
                op.to = at.max(from + recording.settings.linger);
            }
            op
        })
        .collect();
    ops.sort_by_key(|op| op.from);
    ops
}

fn streams(recording: &Recording) -> Vec<Stream<'_>> {
    let mut streams: BTreeMap<u64, Stream<'_>> = BTreeMap::new();
    for record in &recording.records {
        match &record.what {
            What::Opened { stream, client, room, last } => {
                let (last, opened) = (last.as_ref(), record.at);
                let opened = Stream { client, room, last, opened, frames: Vec::new(), closed: None };
                streams.entry(*stream).or_insert(opened);
            }
            What::Frame(frame) => {
                if let Some(stream) = streams.get_mut(&frame.stream) {
                    stream.frames.push((record.at, frame));
                }
            }
            What::Closed { stream } => {
                if let Some(stream) = streams.get_mut(stream) {
                    stream.closed.get_or_insert(record.at);
                }
            }
            _ => {}
        }
    }
    let mut streams: Vec<Stream<'_>> = streams.into_values().collect();
    streams.sort_by_key(|stream| stream.opened);
    streams
}

/// An answer is as old as its question; so is the first frame of a stream, which is read after it was opened.
fn sightings<'a>(ops: &[Op<'a>], streams: &[Stream<'a>]) -> Vec<Sighting<'a>> {
    let mut seen: Vec<Sighting<'a>> = Vec::new();
    for op in ops {
        let (cursor, asked) = match op.outcome {
            Outcome::Ok { cursor, .. } => (cursor, Some(op.from)),
            Outcome::Roster { cursor, stale, .. } => (cursor, (!stale).then_some(op.from)),
            _ => continue,
        };
        seen.push(Sighting { room: &op.asked.room, cursor, asked, seen: op.to });
    }
    for stream in streams {
        let frames = stream.frames.iter().filter_map(|(at, frame)| Some((*at, frame.cursor.as_ref()?)));
        for (index, (at, cursor)) in frames.enumerate() {
            let asked = (index == 0).then_some(stream.opened);
            seen.push(Sighting { room: stream.room, cursor, asked, seen: at });
        }
    }
    seen.sort_by_key(|sighting| sighting.seen);
    seen
}

/// Places each event on the run's clock: by the database's own time, or else after the last question that was
/// answered without it and before the first sight of it.
fn place<'a>(settings: &Settings, log: &[&'a LoggedEvent], seen: &[&Sighting<'_>]) -> Vec<Entry<'a>> {
    let by_clock = |event: &'a LoggedEvent, offset: i64| {
        let at = Duration::from_micros(u64::try_from(event.at_us - offset).unwrap_or_default());
        Entry { event, at, lo: at.saturating_sub(settings.clock_error), hi: at + settings.clock_error }
    };
    if let Some(offset) = settings.clock_offset_us {
        return log.iter().map(|event| by_clock(event, offset)).collect();
    }
    let mut by_version: Vec<(u64, Option<Duration>, Duration)> =
        seen.iter().map(|s| (s.cursor.version, s.asked, s.seen)).collect();
    by_version.sort_by_key(|(version, _, _)| *version);
    let mut first_seen = vec![settings.rest_at; by_version.len() + 1];
    for (index, (_, _, seen)) in by_version.iter().enumerate().rev() {
        first_seen[index] = first_seen[index + 1].min(*seen);
    }
    let (mut next, mut lo) = (0, Duration::ZERO);
    let mut entries = Vec::with_capacity(log.len());
    for event in log {
        while by_version.get(next).is_some_and(|(version, _, _)| *version < event.version) {
            lo = lo.max(by_version[next].1.unwrap_or_default());
            next += 1;
        }
        let hi = first_seen[next].max(lo);
        entries.push(Entry { event, at: hi, lo, hi });
    }
    entries
}

impl Frame {
    /// Whether it tells of a change, rather than that there was none.
    pub fn is_change(&self) -> bool {
        !matches!(self.event, FrameEvent::Sync | FrameEvent::Bye)
    }
}

impl LoggedEvent {
    /// The state, however it was spaced.
    pub fn state(&self) -> Option<serde_json::Value> {
        state(self.state.as_deref())
    }

    pub fn is(&self, kind: EventKind) -> bool {
        self.kind == kind
    }
}

/// A state as it was written, read.
pub fn state(text: Option<&str>) -> Option<serde_json::Value> {
    serde_json::from_str(text?).ok()
}
