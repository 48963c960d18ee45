//! Random histories, played against Postgres and against a plain model of presence at once: after every step the
//! answers, the log and everything there is to see must be the same.
//!
//! A failure is shrunk, printed, and its seed kept in `regressions.txt` beside this file, to be tried first from
//! then on.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod database;
mod past;
mod plain;
mod steps;
#[path = "../support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestError, TestRunner};
use proptest::{prop_assert, prop_assert_eq};
use serde_json::{Value, json};

use database::{Answer, Database, Event, Picture};
use plain::{Change, Changes, Member, Model, Outcome};
use steps::{Beat, Command, Op, Room, Seq, Session, Step, User};

/// Of 40 steps on average: some 15 s. PROPTEST_CASES in the environment plays another number.
const CASES: u32 = 120;

type Checked = Result<(), TestCaseError>;

/// What runs in both worlds, and what was seen of the database so far.
struct Play<'a> {
    database: &'a mut Database,
    model: Model,
    /// Requests sent, to be sent again.
    sent: Vec<Command>,
    /// The newest number of each session.
    seqs: BTreeMap<Session, i64>,
    /// By room, the version up to which the log was read.
    versions: BTreeMap<String, i64>,
    /// The log folded, by room and user.
    fold: BTreeMap<(String, String), Value>,
    /// By time, what everybody saw of each room after a step; only where it is asked for.
    moments: Option<Moments>,
}

type Moments = Vec<(i64, BTreeMap<String, BTreeMap<String, Value>>)>;

#[test]
#[expect(
    clippy::await_holding_refcell_ref,
    reason = "one runtime on one thread: nobody else borrows the database"
)]
fn random_histories_agree_with_a_plain_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = runtime.block_on(support::database());
    let database = RefCell::new(runtime.block_on(async { Database::new(home.connect().await).await }));
    let config = Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model/regressions.txt"))),
        source_file: Some(file!()),
        test_name: Some("random_histories_agree_with_a_plain_model"),
        max_shrink_iters: 3000,
        cases: std::env::var("PROPTEST_CASES").map_or(CASES, |cases| cases.parse().unwrap()),
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&steps::steps(), |steps| {
        runtime.block_on(async {
            let mut database = database.borrow_mut();
            database.forget().await;
            Play::new(&mut database).all(&steps).await
        })
    });
    match played {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("not played: {reason}"),
        Err(TestError::Fail(reason, steps)) => {
            let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
            panic!("{reason}\nafter:\n{}", steps.join("\n"));
        }
    }
}

impl<'a> Play<'a> {
    fn new(database: &'a mut Database) -> Self {
        let (model, sent, seqs) = (Model::default(), Vec::new(), BTreeMap::new());
        Self { database, model, sent, seqs, versions: BTreeMap::new(), fold: BTreeMap::new(), moments: None }
    }

    fn remembering(database: &'a mut Database) -> Self {
        Self { moments: Some(Moments::new()), ..Self::new(database) }
    }

    async fn moments(mut self, steps: &[Step]) -> Result<Moments, TestCaseError> {
        self.remember().await;
        for step in steps {
            self.step(step).await?;
            self.remember().await;
        }
        Ok(self.moments.take().unwrap_or_default())
    }

    async fn remember(&mut self) {
        let mut seen: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for ((room, user), member) in self.model.rosters() {
            let told = past::told(&shown(user, &member));
            seen.entry(room.to_string()).or_default().insert(user.to_string(), told);
        }
        let now = self.database.clock().await;
        self.moments.get_or_insert_default().push((now, seen));
    }

    async fn all(mut self, steps: &[Step]) -> Checked {
        for step in steps {
            self.step(step).await?;
        }
        support::law::assert_lawful(self.database.connection()).await;
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Single(command, seq) => {
                let commands = [self.number(command, *seq)];
                let answers = self.database.single(&commands[0]).await;
                self.commands(&commands, answers, true).await
            }
            Step::Batch { commands, wait, shuffled } => {
                let commands: Vec<Command> = commands.iter().map(|(c, seq)| self.number(c, *seq)).collect();
                let answers = self.database.batch(&commands, *wait, *shuffled).await;
                self.commands(&commands, answers, false).await
            }
            Step::Again(which) if !self.sent.is_empty() => {
                let commands: Vec<Command> =
                    which.iter().map(|index| index.get(&self.sent).clone()).collect();
                let answers = self.database.batch(&commands, true, false).await;
                self.commands(&commands, answers, false).await
            }
            Step::Again(_) => Ok(()),
            Step::Beats(beats) => self.beats(beats).await,
            Step::Profiles(profiles) => {
                self.database.put_users(profiles).await;
                let expected = self.model.put_users(profiles);
                self.look(expected).await.map(drop)
            }
            Step::Wait(times) => {
                self.pass(*times).await;
                self.look(Changes::new()).await.map(drop)
            }
            Step::Sweep => self.sweep(false).await,
            Step::SweepAfterOutage(times) => {
                self.pass(*times).await;
                self.sweep(true).await
            }
        }
    }

    fn number(&mut self, command: &Command, seq: Seq) -> Command {
        let seq = if command.op == Op::Kick { Seq::None } else { seq };
        let command = Command { seq: self.seq(command.session, seq), ..command.clone() };
        self.sent.push(command.clone());
        command
    }

    fn seq(&mut self, session: Session, seq: Seq) -> Option<i64> {
        let newest = self.seqs.entry(session).or_default();
        match seq {
            Seq::None => None,
            Seq::Next => {
                *newest += 1;
                Some(*newest)
            }
            Seq::Late(by) => Some((*newest - by).max(0)),
        }
    }

    async fn pass(&mut self, times: i64) {
        self.database.pass(20 * times).await;
        self.model.now += 20 * times;
    }

    async fn commands(&mut self, commands: &[Command], answers: Vec<Answer>, single: bool) -> Checked {
        let (expected, changes) = self.model.apply(commands);
        let picture = self.look(changes).await?;
        prop_assert_eq!(answers.len(), expected.len());
        for ((command, answer), expected) in commands.iter().zip(answers).zip(expected) {
            let says_member = !single || matches!(command.op, Op::Join | Op::Update);
            let says_created = !single || command.op == Op::Join;
            let outcomes: &[&str] = match expected.outcome {
                Outcome::Ok => &["ok"],
                Outcome::Absent => &["absent"],
                Outcome::Gone => &["absent", "foreign"],
                Outcome::Foreign => &["foreign"],
            };
            prop_assert!(
                outcomes.contains(&answer.outcome.as_str()),
                "{command:?}: {answer:?}, not {outcomes:?}"
            );
            prop_assert_eq!(answer.created, says_created && expected.created, "created, of {:?}", command);
            let member = expected.member.filter(|_| says_member).map(|member| own(command.user, &member));
            prop_assert_eq!(answer.member.map(|m| without_time(&m.0)), member, "member, of {:?}", command);
            if let Some((version, epoch, _)) = picture.rooms.get(&command.room.to_string()) {
                prop_assert_eq!(
                    (answer.version, &answer.epoch),
                    (*version, epoch),
                    "cursor, of {:?}",
                    command
                );
            }
        }
        Ok(())
    }

    async fn beats(&mut self, beats: &[(Beat, Seq)]) -> Checked {
        let number = |(beat, seq): &(Beat, Seq)| Beat { seq: self.seq(beat.session, *seq), ..beat.clone() };
        let beats: Vec<Beat> = beats.iter().map(number).collect();
        let found = self.model.heartbeat(&beats);
        let uuids: Vec<_> =
            found.iter().map(|(session, visible, due)| (session.uuid(), *visible, *due)).collect();
        prop_assert_eq!(self.database.heartbeat(&beats).await, uuids);
        self.look(Changes::new()).await?;
        let due: Vec<Session> =
            found.into_iter().filter(|(.., due)| *due).map(|(session, ..)| session).collect();
        self.database.refresh_idle(&due).await;
        let changes = self.model.flip_idle(&due);
        self.look(changes).await.map(drop)
    }

    async fn sweep(&mut self, after_outage: bool) -> Checked {
        let (expired, departed) = self.database.sweep(after_outage).await;
        let (expected_expired, expected_departed, changes) = self.model.sweep(after_outage);
        self.look(changes).await?;
        prop_assert_eq!((expired as usize, departed as usize), (expected_expired, expected_departed));
        Ok(())
    }

    /// Compares everything, after a step that must have logged `expected`.
    async fn look(&mut self, expected: Changes) -> Result<Picture, TestCaseError> {
        let picture = self.database.picture(&self.versions).await;
        self.read_log(&picture.events, expected)?;
        for (room, (version, ..)) in &picture.rooms {
            prop_assert_eq!(version, self.versions.get(room).unwrap_or(&0), "version of {}", room);
        }
        let rosters = self.model.rosters();
        let theirs = |(room, user): &(Room, User)| (room.to_string(), user.to_string());
        let expected: BTreeMap<_, _> =
            rosters.iter().map(|(who, m)| (theirs(who), shown(who.1, m))).collect();
        let id = |member: &Value| member["id"].as_str().unwrap().to_owned();
        let seen: BTreeMap<_, _> =
            picture.rosters.iter().map(|(room, m)| ((room.clone(), id(m)), without_time(m))).collect();
        prop_assert_eq!(&seen, &expected, "rosters");
        let folded: BTreeMap<_, _> = seen.into_iter().map(|(who, m)| (who, without_sessions(&m))).collect();
        prop_assert_eq!(&self.fold, &folded, "the log folded, and rosters");
        for (room, (_, _, count)) in &picture.rooms {
            prop_assert_eq!(
                *count,
                folded.keys().filter(|(r, _)| r == room).count(),
                "member_count of {}",
                room
            );
        }
        prop_assert_eq!(&picture.presence, &presence(&self.model), "presence");
        prop_assert_eq!(&picture.memberships, &memberships(&self.model), "memberships");
        prop_assert_eq!(&picture.online, &online(&self.model), "online");
        prop_assert_eq!(&picture.users, &users(&self.model), "users");
        for user in &self.model.seen {
            prop_assert!(!picture.unseen.contains(&user.to_string()), "{user} was seen last when?");
        }
        Ok(picture)
    }

    fn read_log(&mut self, events: &[Event], expected: Changes) -> Checked {
        let mut seen: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
        for event in events {
            let version = self.versions.entry(event.room_id.clone()).or_default();
            *version += 1;
            prop_assert_eq!(event.version, *version, "a gap in the log of {}", event.room_id);
            let who = (event.room_id.clone(), event.user_id.clone());
            let here = self.fold.contains_key(&who);
            let (kind, reason) = (event.kind.as_str(), &event.reason);
            prop_assert_eq!(here, kind != "joined", "{:?}", event);
            let member = event.member.as_ref().map(|m| without_sessions(&without_time(m)));
            seen.entry(who.clone()).or_default().push(json!([kind, reason, member]));
            match member {
                Some(member) => self.fold.insert(who, member),
                None => self.fold.remove(&who),
            };
        }
        let logged = |user: User, change: &Change| match change {
            Change::Joined(m) => json!(["joined", null, without_sessions(&shown(user, m))]),
            Change::Updated(m) => json!(["updated", null, without_sessions(&shown(user, m))]),
            Change::Left(reason) => json!(["left", reason, null]),
        };
        let expected: BTreeMap<_, Vec<Value>> = expected
            .into_iter()
            .map(|((room, user), changes)| {
                ((room.to_string(), user.to_string()), changes.iter().map(|c| logged(user, c)).collect())
            })
            .collect();
        prop_assert_eq!(seen, expected, "the log");
        Ok(())
    }
}

fn shown(user: User, member: &Member) -> Value {
    let state = member.state.map_or_else(|| json!({}), |n| json!({ "n": n }));
    json!({
        "id": user.to_string(),
        "name": member.name,
        "avatar_url": member.avatar_url,
        "status": member.status,
        "state": state,
        "sessions": member.sessions,
    })
}

/// As the member sees themselves.
fn own(user: User, member: &Member) -> Value {
    let mut shown = shown(user, member);
    if member.invisible {
        shown["invisible"] = json!(true);
    }
    shown
}

fn without_time(member: &Value) -> Value {
    without(member, "joined_at")
}

fn without_sessions(member: &Value) -> Value {
    without(member, "sessions")
}

fn without(member: &Value, key: &str) -> Value {
    let mut member = member.clone();
    member.as_object_mut().expect("a member is an object").remove(key).expect("every member says it");
    member
}

fn ago(model: &Model, at: i64) -> i64 {
    (model.now - at) / 20
}

fn presence(model: &Model) -> Value {
    let row = |(session, live): (&Session, &plain::Live)| {
        let (active, seen) = (ago(model, live.last_active), ago(model, live.last_seen));
        json!([
            session.uuid(),
            live.user.to_string(),
            live.visible,
            live.idle,
            live.seq,
            live.lease(),
            active,
            seen
        ])
    };
    model.sessions.iter().map(row).collect()
}

fn memberships(model: &Model) -> Value {
    let row = |((room, session), place): (&(Room, Session), &plain::Place)| {
        let user = model.sessions[session].user.to_string();
        let state = place.state.map(|n| json!({ "n": n }));
        // Whole steps since the leave itself.
        let leaving = place.leaving_at.map(|at| ago(model, at - plain::GRACE));
        let invisible = place.invisible;
        json!([room.to_string(), user, session.uuid(), place.status, state, place.seq, invisible, leaving])
    };
    model.places.iter().map(row).collect()
}

fn online(model: &Model) -> Value {
    let mut rooms: BTreeMap<User, Vec<String>> = BTreeMap::new();
    for (room, user) in model.rosters().into_keys() {
        rooms.entry(user).or_default().push(room.to_string());
    }
    rooms.into_iter().map(|(user, rooms)| json!([user.to_string(), rooms])).collect()
}

fn users(model: &Model) -> Value {
    let row = |(user, (name, avatar_url)): (&User, &(String, Option<String>))| {
        json!([user.to_string(), name, avatar_url])
    };
    model.profiles.iter().map(row).collect()
}
