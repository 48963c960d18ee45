//! What can happen to a presence service, and how often: the random sequences that the test plays.

use std::fmt;

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use uuid::Uuid;

/// Few of each, so that they meet all the time.
const ROOMS: u8 = 3;
const USERS: u8 = 3;
const SESSIONS: u8 = 6;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Room(pub u8);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct User(pub u8);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session(pub u8);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Join,
    Leave { grace: bool },
    Update,
    Kick,
}

/// What is given of a profile; an empty picture removes it.
#[derive(Clone, Debug)]
pub struct Profile {
    pub user: User,
    pub name: Option<String>,
    pub avatar_url: Option<String>,
}

#[derive(Clone)]
pub struct Command {
    pub op: Op,
    pub room: Room,
    pub user: User,
    pub session: Session,
    pub seq: Option<i64>,
    pub profile: Profile,
    pub status: Option<&'static str>,
    pub state: Option<u8>,
    pub visible: Option<bool>,
    pub invisible: Option<bool>,
}

/// The number a request carries: counted up by its session, or an earlier one of it.
#[derive(Clone, Copy, Debug)]
pub enum Seq {
    None,
    Next,
    Late(i64),
}

#[derive(Clone, Debug)]
pub struct Beat {
    pub session: Session,
    /// None under the server key.
    pub user: Option<User>,
    pub visible: Option<bool>,
    pub active: bool,
    pub seq: Option<i64>,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Through `headcount.join` and its like.
    Single(Command, Seq),
    /// Through `headcount.apply`.
    Batch {
        commands: Vec<(Command, Seq)>,
        wait: bool,
        shuffled: bool,
    },
    /// Requests that were sent before, once more, together.
    Again(Vec<Index>),
    Beats(Vec<(Beat, Seq)>),
    Profiles(Vec<Profile>),
    /// So many times 20 s, in which sweeps found nothing to do or did not come to do it.
    Wait(i64),
    Sweep,
    /// The first sweep after nothing could run for so many times 20 s.
    SweepAfterOutage(i64),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Not from 30 on, because a failing history is shrunk to no less.
    vec(step(), 1..=80)
}

fn step() -> impl Strategy<Value = Step> {
    let batch = (vec((command(), seq()), 2..=8), any::<bool>(), any::<bool>());
    prop_oneof![
        6 => (command(), seq()).prop_map(|(command, seq)| Step::Single(command, seq)),
        6 => batch.prop_map(|(mut commands, wait, shuffled)| {
            commands.iter_mut().for_each(|(command, _)| no_strange_leave(command));
            Step::Batch { commands, wait, shuffled }
        }),
        3 => vec(any::<Index>(), 1..=3).prop_map(Step::Again),
        5 => beats().prop_map(Step::Beats),
        1 => vec(users().prop_flat_map(profile), 1..=3).prop_map(Step::Profiles),
        4 => prop_oneof![6 => 1..=3_i64, 1 => Just(8), 1 => Just(16)].prop_map(Step::Wait),
        4 => Just(Step::Sweep),
        1 => (3..=10_i64).prop_map(Step::SweepAfterOutage),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let op = prop_oneof![
        10 => Just(Op::Join),
        4 => Just(Op::Leave { grace: false }),
        3 => Just(Op::Leave { grace: true }),
        4 => Just(Op::Update),
        1 => Just(Op::Kick),
    ];
    let visible = weighted(0.3, any::<bool>());
    let invisible = weighted(0.3, any::<bool>());
    let status = weighted(0.3, select(vec!["online", "idle", "dnd"]));
    let who = (owned_session(), users().prop_flat_map(profile));
    let parts = (op, 0..ROOMS, who, status, of(0..3_u8), visible, invisible);
    parts.prop_map(|(op, room, ((session, user), profile), status, state, visible, invisible)| Command {
        op,
        room: Room(room),
        user,
        session,
        seq: None,
        profile: Profile { user, ..profile },
        status,
        state,
        visible,
        invisible,
    })
}

/// A leave that overtakes its join makes the session its user's. When two users do that in one batch, who is
/// first is nobody's business.
fn no_strange_leave(command: &mut Command) {
    if matches!(command.op, Op::Leave { .. }) {
        command.user = usual(command.session);
    }
}

fn seq() -> impl Strategy<Value = Seq> {
    prop_oneof![2 => Just(Seq::None), 6 => Just(Seq::Next), 2 => (0..4_i64).prop_map(Seq::Late)]
}

/// A session with its usual user, and now and then with somebody else.
fn owned_session() -> impl Strategy<Value = (Session, User)> {
    let stranger = weighted(0.05, users());
    (0..SESSIONS, stranger).prop_map(|(session, stranger)| {
        let session = Session(session);
        (session, stranger.unwrap_or(usual(session)))
    })
}

fn usual(session: Session) -> User {
    User(session.0 % USERS)
}

fn users() -> impl Strategy<Value = User> {
    (0..USERS).prop_map(User)
}

fn profile(user: User) -> impl Strategy<Value = Profile> {
    let name = weighted(0.2, select(vec!["Ann", "Bob"]));
    let avatar_url = weighted(0.2, select(vec!["", "https://example.org/a.png"]));
    (name, avatar_url).prop_map(move |(name, avatar_url)| Profile {
        user,
        name: name.map(str::to_owned),
        avatar_url: avatar_url.map(str::to_owned),
    })
}

/// A session at most once, in order, as `headcount.heartbeat` asks for.
fn beats() -> impl Strategy<Value = Vec<(Beat, Seq)>> {
    subsequence((0..SESSIONS).collect::<Vec<_>>(), 1..=usize::from(SESSIONS))
        .prop_flat_map(|sessions| sessions.into_iter().map(beat).collect::<Vec<_>>())
}

fn beat(session: u8) -> impl Strategy<Value = (Beat, Seq)> {
    let session = Session(session);
    let user = prop_oneof![6 => Just(Some(usual(session))), 2 => Just(None), 1 => users().prop_map(Some)];
    (user, weighted(0.3, any::<bool>()), any::<bool>(), seq()).prop_map(
        move |(user, visible, active, seq)| (Beat { session, user, visible, active, seq: None }, seq),
    )
}

impl Session {
    pub fn uuid(self) -> Uuid {
        Uuid::from_u128(u128::from(self.0))
    }
}

/// Only what the verb uses and what is given.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, room, user, session, seq, profile, status, state, visible, invisible } = self;
        write!(f, "{op:?} {room} {user}")?;
        if *op != Op::Kick {
            write!(f, " {session:?}")?;
        }
        let join = (*op == Op::Join).then_some((profile, visible));
        let name = join.and_then(|(profile, _)| profile.name.as_ref());
        let avatar_url = join.and_then(|(profile, _)| profile.avatar_url.as_ref());
        let visible = join.and_then(|(_, visible)| *visible);
        let (status, state) =
            if matches!(op, Op::Join | Op::Update) { (*status, *state) } else { (None, None) };
        seq.map_or(Ok(()), |seq| write!(f, " seq={seq}"))?;
        name.map_or(Ok(()), |name| write!(f, " name={name}"))?;
        avatar_url.map_or(Ok(()), |url| write!(f, " avatar_url={url:?}"))?;
        status.map_or(Ok(()), |status| write!(f, " {status}"))?;
        state.map_or(Ok(()), |state| write!(f, " state={state}"))?;
        visible.map_or(Ok(()), |visible| write!(f, " visible={visible}"))?;
        invisible
            .filter(|_| matches!(op, Op::Join | Op::Update))
            .map_or(Ok(()), |invisible| write!(f, " invisible={invisible}"))
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "room-{}", self.0)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user-{}", self.0)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session-{}", self.0)
    }
}
