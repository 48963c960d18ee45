//! Group commit. The writer takes the commands that queued while its last transaction ran, and applies them
//! in one transaction; each caller gets its own answer after the commit. No linger timer: under load batches
//! fill by themselves, without load no command waits. Under more load two transactions are in flight, which
//! have nothing in common ([`schedule`](super::schedule)).
//!
//! Bounded: at most [`QUEUE_MAX`] commands wait; one more is refused as overloaded. Every caller is answered
//! within [`ANSWER_MAX`], also while the database hangs. If the command had not been taken by then, the
//! answer is that nothing was done; if it had, that the outcome is unknown.
//!
//! A room that another transaction locks (another replica for milliseconds, a person with psql for minutes)
//! must not stop the other rooms of the batch. The main lane is the fast path, and skips locked rooms. Their
//! commands go to a second lane, the slow path, which waits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span};

use super::error::CommandError;
use super::schedule::{Needs, Schedule, taken_by};
use crate::domain::hint::Hint;
use crate::domain::id::{RoomId, UserId};
use crate::measure::{meters, number, spans, throttle};
use crate::store::commands::{Answer, Command, IfHeld, Outcome, UserLimits};
use crate::store::{Store, StoreError, bounded};

/// Commands in one transaction, at most: about 50 ms of work.
const BATCH_MAX: usize = 500;

/// Commands queued, at most: eight batches, so the last of them waits less than half a second.
const QUEUE_MAX: usize = 4096;

/// How far ahead to look for commands that can run now. A longer run for one room blocks the rest.
const AT_HAND_MAX: usize = 2 * BATCH_MAX;

/// Timeout of every caller: a second, less the way back to the client.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(900);

/// A command that waited longer than this for a locked room is refused. With the lock timeout of 250 ms, once
/// for a user and once for the room, it is answered before [`ANSWER_MAX`].
pub(super) const ASIDE_MAX: Duration = Duration::from_millis(350);

/// A batch that failed sooner is retried: there is time for both attempts.
const RETRY_WITHIN: Duration = Duration::from_millis(300);

/// Callback with every room that a commit of this replica changed, before its callers are answered.
pub type OnCommit = Arc<dyn Fn(Vec<Hint>) + Send + Sync>;

/// One for each command of a batch; an error where it cannot be read.
pub(super) type Answers = Vec<Result<Answer, StoreError>>;

type Reply = oneshot::Sender<Result<Answer, CommandError>>;

struct QueuedCommand {
    command: Command,
    since: Instant,
    handover: Arc<Handover>,
    reply: Reply,
    /// The request's span.
    span: Span,
}

impl Needs for QueuedCommand {
    fn room(&self) -> &RoomId {
        &self.command.room_id
    }

    fn user(&self) -> &UserId {
        &self.command.user_id
    }
}

/// The state of a command. Its caller and its lane race for it by an atomic swap, so that "nothing was done"
/// is never said of a command that is carried out later.
#[derive(Default)]
struct Handover(AtomicU8);

const WAITING: u8 = 0;
const ASIDE: u8 = 1;
const TAKEN: u8 = 2;
const GIVEN_UP: u8 = 3;

impl Handover {
    /// The lane calls this before it carries the command out. False if the caller gave up first and was told
    /// that nothing was done.
    fn take(&self) -> bool {
        self.0.swap(TAKEN, Ordering::AcqRel) != GIVEN_UP
    }

    /// The lane calls this when nothing was done because the room is locked.
    fn set_aside(&self) {
        self.0.store(ASIDE, Ordering::Release);
    }

    /// The caller calls this at its timeout. Returns what is known of the command.
    fn give_up(&self) -> CommandError {
        match self.0.swap(GIVEN_UP, Ordering::AcqRel) {
            WAITING => CommandError::Unavailable,
            ASIDE => CommandError::Busy,
            _ => CommandError::OutcomeUnknown,
        }
    }
}

/// The caller that waits for a command.
struct Waiter {
    since: Instant,
    handover: Arc<Handover>,
    reply: Reply,
    span: Span,
}

impl QueuedCommand {
    fn split(self) -> (Command, Waiter) {
        let Self { command, since, handover, reply, span } = self;
        (command, Waiter { since, handover, reply, span })
    }
}

impl Waiter {
    fn with(self, command: Command) -> QueuedCommand {
        let Self { since, handover, reply, span } = self;
        QueuedCommand { command, since, handover, reply, span }
    }
}

/// The handle of the writer. Cheap to clone; the lanes end when the last clone is dropped.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<QueuedCommand>,
    /// Commands that the main lane has received and not yet begun.
    at_hand: Arc<AtomicUsize>,
    aside: mpsc::Sender<QueuedCommand>,
}

impl Writer {
    /// Starts the two lanes.
    pub fn start(store: Store, limits: UserLimits, moved: OnCommit) -> Self {
        let (queue, commands) = mpsc::channel(QUEUE_MAX - AT_HAND_MAX);
        let (patient_queue, patient_commands) = mpsc::channel(QUEUE_MAX);
        let patient = Lane::new(store.clone(), limits, moved.clone());
        let lane = Lane { store, limits, moved, busy: Some(patient_queue.clone()) };
        let main = Main {
            lane: Arc::new(lane),
            schedule: Schedule::new(),
            batches: JoinSet::new(),
            at_hand: Arc::default(),
        };
        let at_hand = main.at_hand.clone();
        tokio::spawn(main.run(commands));
        tokio::spawn(patient.wait(patient_commands));
        Self { queue, at_hand, aside: patient_queue }
    }

    /// Sets the gauges of queued commands.
    pub(super) fn measure(&self) {
        let queued = |queue: &mpsc::Sender<QueuedCommand>| queue.max_capacity() - queue.capacity();
        let main = queued(&self.queue) + self.at_hand.load(Ordering::Relaxed);
        for (lane, waiting) in [("main", main), ("aside", queued(&self.aside))] {
            meters().writer_queue.set(lane, number(waiting));
        }
    }

    /// Submits a command and waits for its commit.
    pub async fn submit(&self, command: Command) -> Result<Answer, CommandError> {
        let (reply, answer) = oneshot::channel();
        let handover = Arc::<Handover>::default();
        let span = spans::current();
        let queued =
            QueuedCommand { command, since: Instant::now(), handover: handover.clone(), reply, span };
        self.queue.try_send(queued).map_err(|_| CommandError::Overloaded)?;
        let answer = timeout(ANSWER_MAX, answer).await.map_err(|_| handover.give_up())?;
        told(answer.unwrap_or(Err(CommandError::Unavailable))?)
    }
}

/// The outcome of one command, as its caller is told.
pub type CommandResult = Result<Answer, CommandError>;

pub(super) fn told(answer: Answer) -> CommandResult {
    match answer.outcome {
        Outcome::Foreign => Err(CommandError::NoSession),
        Outcome::RoomsFull => Err(CommandError::TooManyRooms),
        Outcome::SessionsFull => Err(CommandError::TooManySessions),
        Outcome::RoomFull => Err(CommandError::RoomFull),
        Outcome::Revoked => Err(CommandError::Revoked),
        Outcome::Busy => Err(CommandError::Busy),
        Outcome::Ok | Outcome::Absent => Ok(answer),
    }
}

/// The main lane, which waits for no lock. Receives commands, and starts every batch that the schedule
/// allows.
struct Main {
    lane: Arc<Lane>,
    schedule: Schedule<QueuedCommand, task::Id>,
    batches: JoinSet<()>,
    at_hand: Arc<AtomicUsize>,
}

impl Main {
    async fn run(mut self, mut commands: mpsc::Receiver<QueuedCommand>) {
        let mut open = true;
        loop {
            let space = AT_HAND_MAX.saturating_sub(self.schedule.waiting().len());
            tokio::select! {
                count = commands.recv_many(self.schedule.waiting(), space), if open && space > 0 => open = count > 0,
                Some(ended) = self.batches.join_next_with_id() => {
                    self.schedule.done(&ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                else => return,
            }
            while let Some(batch) = self.schedule.next(BATCH_MAX) {
                self.begin(batch);
            }
            self.at_hand.store(self.schedule.waiting().len(), Ordering::Relaxed);
        }
    }

    fn begin(&mut self, batch: Vec<QueuedCommand>) {
        let (lane, taken) = (self.lane.clone(), taken_by(&batch));
        let applied =
            async move { lane.apply(batch.into_iter().filter(|q| q.handover.take()).collect()).await };
        self.schedule.begun(self.batches.spawn(applied).id(), taken);
    }
}

pub(super) struct Lane {
    store: Store,
    limits: UserLimits,
    pub(super) moved: OnCommit,
    /// The queue of the slow path, for commands of locked rooms; none in the slow path itself.
    busy: Option<mpsc::Sender<QueuedCommand>>,
}

impl Lane {
    /// A lane that waits for locks, or is told of them.
    pub(super) fn new(store: Store, limits: UserLimits, moved: OnCommit) -> Self {
        Self { store, limits, moved, busy: None }
    }

    /// The slow path: commands whose room was locked, one room after the other.
    async fn wait(self, mut commands: mpsc::Receiver<QueuedCommand>) {
        let mut queued = Vec::with_capacity(BATCH_MAX);
        while commands.recv_many(&mut queued, BATCH_MAX).await > 0 {
            for group in by_room(queued.drain(..)) {
                self.apply(refuse_old(group)).await;
            }
        }
    }

    async fn apply(&self, batch: Vec<QueuedCommand>) {
        if batch.is_empty() {
            return;
        }
        let held = if self.busy.is_some() { IfHeld::Skip } else { IfHeld::Wait };
        let (commands, callers): (Vec<_>, Vec<_>) = batch.into_iter().map(QueuedCommand::split).unzip();
        let span = spans::batch(callers.iter().map(|caller| &caller.span), commands.len());
        match self.measured(&commands, held).instrument(span).await {
            Ok(answers) => {
                (self.moved)(hints(&commands, &answers));
                for ((command, caller), answer) in commands.into_iter().zip(callers).zip(answers) {
                    match answer {
                        Ok(answer) if answer.outcome == Outcome::Busy => {
                            self.step_aside(caller.with(command));
                        }
                        Ok(answer) => drop(caller.reply.send(Ok(answer))), // the caller may be gone; the command is done
                        Err(error) => {
                            tracing::warn!(%error, room = %command.room_id, "the answer to a command cannot be read");
                            drop(caller.reply.send(Err((&error).into())));
                        }
                    }
                }
            }
            Err(error) => self.fail(&error, commands, callers).await,
        }
    }

    pub(super) async fn measured(&self, commands: &[Command], held: IfHeld) -> Result<Answers, StoreError> {
        let (meters, started) = (meters(), Instant::now());
        let result = self.attempt(commands, held).await;
        match &result {
            Ok(answers) => {
                meters.writer_commits.increment(1);
                meters.writer_duration.record(started.elapsed());
                meters.writer_batch.record(number(commands.len()));
                for (command, answer) in commands.iter().zip(answers) {
                    if !answer.as_ref().is_ok_and(|answer| answer.outcome == Outcome::Busy) {
                        meters.commands.count(command.op.as_str(), 1);
                    }
                }
            }
            Err(error) => meters.writer_failures.count(error.name(), 1),
        }
        result
    }

    /// Retries once if the connection was dead: commands are idempotent, and after a restart of Postgres
    /// every pooled connection is dead.
    async fn attempt(&self, commands: &[Command], held: IfHeld) -> Result<Answers, StoreError> {
        let started = Instant::now();
        let once = || bounded(self.store.apply(commands, held, self.limits)).instrument(spans::commit());
        match once().await {
            Err(StoreError::OutcomeUnknown | StoreError::Unavailable) if started.elapsed() < RETRY_WITHIN => {
                once().await
            }
            result => result,
        }
    }

    /// One command with bad data, or one locked user, fails a whole batch. After bad data, each command is
    /// retried alone; after a lock, all go to the slow path.
    async fn fail(&self, error: &StoreError, commands: Vec<Command>, callers: Vec<Waiter>) {
        let alone = commands.len() == 1;
        let culprit_unknown = matches!(error, StoreError::Refused(_) | StoreError::Busy);
        if (!alone || !culprit_unknown)
            && let Some(suppressed) = throttle::admit("a batch of commands failed", error.name())
        {
            tracing::warn!(%error, commands = commands.len(), suppressed, "a batch of commands failed");
        }
        for (command, caller) in commands.into_iter().zip(callers) {
            match error {
                StoreError::Busy if self.busy.is_some() => self.step_aside(caller.with(command)),
                StoreError::Refused(_) if !alone => Box::pin(self.apply(vec![caller.with(command)])).await,
                error => drop(caller.reply.send(Err(error.into()))),
            }
        }
    }

    fn step_aside(&self, queued: QueuedCommand) {
        let Some(lane) = &self.busy else {
            return drop(queued.reply.send(Err(CommandError::Busy)));
        };
        queued.handover.set_aside();
        if let Err(mpsc::error::TrySendError::Full(queued) | mpsc::error::TrySendError::Closed(queued)) =
            lane.try_send(queued)
        {
            let _ = queued.reply.send(Err(CommandError::Busy));
        }
    }
}

/// Refuses the commands of a group that waited longer than [`ASIDE_MAX`], and takes the others.
fn refuse_old(group: Vec<QueuedCommand>) -> Vec<QueuedCommand> {
    let (fresh, old): (Vec<_>, Vec<_>) = group.into_iter().partition(|q| q.since.elapsed() < ASIDE_MAX);
    for queued in old {
        let _ = queued.reply.send(Err(CommandError::Busy));
    }
    fresh.into_iter().filter(|queued| queued.handover.take()).collect()
}

fn by_room(queued: impl Iterator<Item = QueuedCommand>) -> impl Iterator<Item = Vec<QueuedCommand>> {
    let mut groups: HashMap<RoomId, Vec<QueuedCommand>> = HashMap::new();
    for queued in queued {
        groups.entry(queued.command.room_id.clone()).or_default().push(queued);
    }
    groups.into_values()
}

pub(super) fn hints(commands: &[Command], answers: &Answers) -> Vec<Hint> {
    let done = commands.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
    let moved: HashSet<&RoomId> = done.map(|(command, _)| &command.room_id).collect();
    moved.into_iter().map(|room| Hint::Room(room.clone())).collect()
}
