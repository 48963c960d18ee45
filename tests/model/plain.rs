//! What presence means, in plain Rust: maps, and a whole look at every roster before and after each change. It
//! knows nothing of SQL, locks or plans; seconds pass when it is told so.

use std::collections::{BTreeMap, BTreeSet};

use crate::steps::{Beat, Command, Op, Profile, Room, Session, User};

/// Lease of a visible and of a hidden session, a leave's grace, and the time until a session is idle. Time passes
/// in steps of 20 s, so each of these lies well between two multiples: a slow machine cannot blur who is early.
pub const LEASE: i64 = 45;
pub const LEASE_HIDDEN: i64 = 150;
pub const GRACE: i64 = 5;
pub const IDLE_AFTER: i64 = 310;

/// A room's member, as everybody sees them; or, if nobody does, as they see themselves.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    pub name: String,
    pub avatar_url: Option<String>,
    pub status: &'static str,
    pub state: Option<u8>,
    pub sessions: usize,
    pub invisible: bool,
}

/// One event that a step must have logged.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    Joined(Member),
    Updated(Member),
    Left(&'static str),
}

/// The events of a step, by room and user.
pub type Changes = BTreeMap<(Room, User), Vec<Change>>;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    Ok,
    Absent,
    /// Neither in the room nor anywhere: whether that is called absent or foreign says nothing more.
    Gone,
    Foreign,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    pub outcome: Outcome,
    pub created: bool,
    pub member: Option<Member>,
}

/// A live session.
#[derive(Clone, Debug)]
pub struct Live {
    pub user: User,
    pub visible: bool,
    pub idle: bool,
    pub seq: i64,
    pub last_active: i64,
    pub last_seen: i64,
}

/// A session's place in a room.
#[derive(Clone, Debug)]
pub struct Place {
    pub status: Option<&'static str>,
    pub state: Option<u8>,
    pub seq: i64,
    pub invisible: bool,
    /// Orders the states of a member's sessions: the newest is the member's.
    changed: u64,
    pub leaving_at: Option<i64>,
}

#[derive(Default)]
pub struct Model {
    pub now: i64,
    pub profiles: BTreeMap<User, (String, Option<String>)>,
    /// Users whom others saw leaving.
    pub seen: BTreeSet<User>,
    /// Whose a session is, for ever.
    owners: BTreeMap<Session, User>,
    pub sessions: BTreeMap<Session, Live>,
    pub places: BTreeMap<(Room, Session), Place>,
    /// The newest seq that a session which left a room was seen with there.
    departed: BTreeMap<(Room, Session), i64>,
    leases_from: Option<i64>,
    changes: u64,
}

impl Live {
    pub fn lease(&self) -> i64 {
        if self.visible { LEASE } else { LEASE_HIDDEN }
    }
}

impl Model {
    /// What everybody sees.
    pub fn rosters(&self) -> BTreeMap<(Room, User), Member> {
        let of = |(room, session): &(Room, Session)| (*room, self.sessions[session].user);
        let everybody: BTreeSet<_> = self.places.keys().map(of).collect();
        let seen = |(room, user)| Some(((room, user), self.member(room, user, false)?));
        everybody.into_iter().filter_map(seen).collect()
    }

    /// As they see themselves.
    fn own_member(&self, room: Room, user: User) -> Option<Member> {
        self.member(room, user, false).or_else(|| self.member(room, user, true))
    }

    fn member(&self, room: Room, user: User, invisible: bool) -> Option<Member> {
        let tabs: Vec<(&Live, &Place)> = self
            .places_of(room, user)
            .filter(|(_, place)| place.invisible == invisible)
            .map(|(session, place)| (&self.sessions[&session], place))
            .collect();
        let (name, avatar_url) = self.profiles.get(&user)?.clone();
        // Silence takes no part where something was said.
        let said = tabs.iter().any(|(_, place)| place.status.is_some());
        let online = |(live, place): &(&Live, &Place)| {
            !live.idle && place.status == if said { Some("online") } else { None }
        };
        let status = if tabs.iter().any(|(_, place)| place.status == Some("dnd")) {
            "dnd"
        } else if tabs.iter().any(online) {
            "online"
        } else {
            "idle"
        };
        let newest =
            tabs.iter().filter(|(_, place)| place.state.is_some()).max_by_key(|(_, place)| place.changed);
        let state = newest.and_then(|(_, place)| place.state);
        let sessions = tabs.len();
        (sessions > 0).then_some(Member { name, avatar_url, status, state, sessions, invisible })
    }

    fn places_of(&self, room: Room, user: User) -> impl Iterator<Item = (Session, &Place)> {
        let theirs = move |session: &Session| self.sessions[session].user == user;
        self.places
            .iter()
            .filter(move |((r, s), _)| *r == room && theirs(s))
            .map(|((_, s), place)| (*s, place))
    }

    /// The rosters before a change against those after it: what the log must say.
    fn observe(
        &mut self,
        log: &mut Changes,
        reason: impl Fn(&Room, &User) -> &'static str,
        f: impl FnOnce(&mut Self),
    ) {
        let seen = |member: &Member| Member { sessions: 0, ..member.clone() };
        let (before, ()) = (self.rosters(), f(self));
        let after = self.rosters();
        for (who, member) in &after {
            match before.get(who) {
                None => log.entry(*who).or_default().push(Change::Joined(member.clone())),
                Some(old) if seen(old) != seen(member) => {
                    log.entry(*who).or_default().push(Change::Updated(member.clone()));
                }
                Some(_) => {}
            }
        }
        for who in before.keys().filter(|who| !after.contains_key(who)) {
            self.seen.insert(who.1);
            log.entry(*who).or_default().push(Change::Left(reason(&who.0, &who.1)));
        }
    }

    /// A batch: profiles and the ownership of new sessions first, then each command, and at the end the sessions
    /// that are in no room any more are gone.
    pub fn apply(&mut self, commands: &[Command]) -> (Vec<Answer>, Changes) {
        let mut log = Changes::new();
        let joins = || commands.iter().filter(|c| c.op == Op::Join);
        let profiles = self.wanted_profiles(joins());
        self.observe(&mut log, |_, _| "", |model| model.set_profiles(&profiles));
        for join in joins() {
            self.owners.entry(join.session).or_insert(join.user);
        }
        let answers = commands.iter().map(|command| self.answer(command, &mut log)).collect();
        self.end_sessions();
        (answers, log)
    }

    /// Who is new is created as all their joins say. After that a join that is refused for its session says nothing.
    fn wanted_profiles<'c>(&mut self, joins: impl Iterator<Item = &'c Command> + Clone) -> Vec<Profile> {
        let profile = |join: &Command| Profile { user: join.user, ..join.profile.clone() };
        let new: Vec<_> =
            joins.clone().filter(|c| !self.profiles.contains_key(&c.user)).map(profile).collect();
        self.set_profiles(&new);
        let mut all = self.profiles.clone();
        std::mem::swap(&mut all, &mut self.profiles);
        self.set_profiles(&joins.clone().map(profile).collect::<Vec<_>>());
        std::mem::swap(&mut all, &mut self.profiles);
        if all == self.profiles {
            return Vec::new();
        }
        let owned = |c: &&Command| self.owners.get(&c.session).is_none_or(|owner| *owner == c.user);
        joins.filter(owned).map(profile).collect()
    }

    fn answer(&mut self, command: &Command, log: &mut Changes) -> Answer {
        let (room, user) = (command.room, command.user);
        let there_before = self.member(room, user, false).is_some();
        let mut outcome = Outcome::Ok;
        let reason = if command.op == Op::Kick { "kicked" } else { "left" };
        self.observe(log, |_, _| reason, |model| outcome = model.carry_out(command));
        let member = if outcome == Outcome::Ok { self.own_member(room, user) } else { None };
        let here = member.as_ref().is_some_and(|member| !member.invisible);
        Answer { outcome, created: here && !there_before, member }
    }

    fn carry_out(&mut self, command: &Command) -> Outcome {
        let Command { room, user, session, .. } = *command;
        if command.op == Op::Kick {
            let theirs: Vec<Session> = self.places_of(room, user).map(|(session, _)| session).collect();
            theirs.into_iter().for_each(|session| self.depart(room, session, None));
            return Outcome::Ok;
        }
        if self.owners.get(&session).is_some_and(|owner| *owner != user) {
            return Outcome::Foreign;
        }
        let place = (room, session);
        let newest = self.places.get(&place).map(|p| p.seq).max(self.departed.get(&place).copied());
        if command.seq.is_some() && command.seq < newest {
            return Outcome::Ok;
        }
        let there = self.places.contains_key(&place);
        match command.op {
            Op::Join => self.join(command),
            Op::Update if there => self.update(command),
            Op::Leave { grace: true } if there => {
                let (now, place) = (self.now, self.places.get_mut(&place).unwrap());
                place.leaving_at = Some(now + GRACE);
                place.seq = place.seq.max(command.seq.unwrap_or(0));
            }
            Op::Leave { grace: false } if there => self.depart(room, session, command.seq),
            Op::Leave { .. } => {
                if let Some(seq) = command.seq {
                    self.owners.insert(session, user);
                    self.departed.insert(place, seq);
                }
                return Outcome::Absent;
            }
            _ if self.sessions.contains_key(&session) => return Outcome::Absent,
            _ => return Outcome::Gone,
        }
        Outcome::Ok
    }

    fn join(&mut self, command: &Command) {
        let (now, user) = (self.now, command.user);
        let born = || Live { user, visible: true, idle: false, seq: 0, last_active: now, last_seen: now };
        self.sessions.entry(command.session).or_insert_with(born);
        let place =
            Place { status: None, state: None, seq: 0, invisible: false, changed: 0, leaving_at: None };
        self.places.entry((command.room, command.session)).or_insert(place).leaving_at = None;
        self.update(command);
    }

    fn update(&mut self, command: &Command) {
        let live = self.sessions.get_mut(&command.session).unwrap();
        live.last_seen = self.now;
        live.last_active = self.now;
        live.visible = command.visible.filter(|_| command.op == Op::Join).unwrap_or(live.visible);
        let place = self.places.get_mut(&(command.room, command.session)).unwrap();
        place.seq = place.seq.max(command.seq.unwrap_or(0));
        place.status = command.status.or(place.status);
        place.invisible = command.invisible.unwrap_or(place.invisible);
        if command.state.is_some() {
            self.changes += 1;
            place.state = command.state;
            place.changed = self.changes;
        }
    }

    fn depart(&mut self, room: Room, session: Session, seq: Option<i64>) {
        let place = self.places.remove(&(room, session)).unwrap();
        let newest = self.departed.entry((room, session)).or_default();
        *newest = place.seq.max(*newest).max(seq.unwrap_or(0));
    }

    fn end_sessions(&mut self) {
        let here: BTreeSet<Session> = self.places.keys().map(|(_, session)| *session).collect();
        self.sessions.retain(|session, _| here.contains(session));
    }

    pub fn put_users(&mut self, profiles: &[Profile]) -> Changes {
        let mut log = Changes::new();
        self.observe(&mut log, |_, _| "", |model| model.set_profiles(profiles));
        log
    }

    fn set_profiles(&mut self, profiles: &[Profile]) {
        for Profile { user, name, avatar_url } in profiles {
            let (n, a) = self.profiles.entry(*user).or_insert_with(|| (user.to_string(), None));
            if let Some(name) = name {
                n.clone_from(name);
            }
            if let Some(url) = avatar_url {
                *a = Some(url.clone()).filter(|url| !url.is_empty());
            }
        }
    }

    /// Gives for each session found: itself, whether it is visible, and whether its idleness is due for a change.
    pub fn heartbeat(&mut self, beats: &[Beat]) -> Vec<(Session, bool, bool)> {
        let mut alive = Vec::new();
        for beat in beats {
            let Some(live) = self.sessions.get_mut(&beat.session) else {
                continue;
            };
            if beat.user.is_some_and(|user| user != live.user) {
                continue;
            }
            if beat.seq.is_none_or(|seq| seq >= live.seq) {
                live.last_seen = self.now;
                live.last_active = if beat.active { self.now } else { live.last_active };
                live.visible = beat.visible.unwrap_or(live.visible);
                live.seq = beat.seq.unwrap_or(live.seq);
            }
            let inactive = live.last_active < self.now - IDLE_AFTER;
            alive.push((beat.session, live.visible, live.idle != inactive));
        }
        alive
    }

    pub fn flip_idle(&mut self, due: &[Session]) -> Changes {
        let mut log = Changes::new();
        let flip = |model: &mut Self| {
            for session in due {
                let live = model.sessions.get_mut(session).unwrap();
                live.idle = !live.idle;
            }
        };
        self.observe(&mut log, |_, _| "", flip);
        log
    }

    /// Gives how many sessions expired, how many members are gone, and the events.
    pub fn sweep(&mut self, after_outage: bool) -> (usize, usize, Changes) {
        if after_outage {
            self.leases_from = Some(self.now);
        }
        let (now, leases_from) = (self.now, self.leases_from.unwrap_or(i64::MIN / 2));
        let over = |live: &Live| live.last_seen.max(leases_from) + live.lease() < now;
        let expired: BTreeSet<Session> =
            self.sessions.iter().filter(|(_, live)| over(live)).map(|(session, _)| *session).collect();
        let ends = |(_, session): &(Room, Session), place: &Place| {
            expired.contains(session) || place.leaving_at.is_some_and(|at| at <= now)
        };
        let ended: Vec<(Room, Session)> =
            self.places.iter().filter(|(at, place)| ends(at, place)).map(|(at, _)| *at).collect();
        let expirers: BTreeSet<(Room, User)> = ended
            .iter()
            .filter(|(_, session)| expired.contains(session))
            .map(|(room, session)| (*room, self.sessions[session].user))
            .collect();
        let mut log = Changes::new();
        let reason = |room: &Room, user: &User| {
            if expirers.contains(&(*room, *user)) { "expired" } else { "left" }
        };
        self.observe(&mut log, reason, |model| {
            ended.into_iter().for_each(|(room, session)| model.depart(room, session, None));
        });
        self.end_sessions();
        let departed = log.values().flatten().filter(|change| matches!(change, Change::Left(_))).count();
        (expired.len(), departed, log)
    }
}
