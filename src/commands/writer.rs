//! Group commit. The writer takes whatever commands queued while its last transaction ran, and applies them in
//! one transaction; each caller gets its own answer after the commit. No linger timer: under load batches fill
//! by themselves, without load nobody waits.
//!
//! Bounded: at most [`QUEUE_MAX`] commands wait; one more is refused as overloaded. A command that waited longer
//! than [`QUEUED_MAX`] is refused untried.
//!
//! A room that somebody else holds (another replica for milliseconds, a person with psql for minutes) must not
//! stop the other rooms of the batch: its commands go to a second lane, which waits.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Failure, Moved};
use crate::domain::hint::Hint;
use crate::domain::id::RoomId;
use crate::store::commands::{Answer, Command, Held, Outcome};
use crate::store::{Store, StoreError, bounded};

/// Commands in one transaction, at most: about 50 ms of work.
const BATCH_MAX: usize = 500;

/// Commands waiting, at most: eight batches, so the last of them waits less than half a second.
const QUEUE_MAX: usize = 4096;

/// Waiting longer than this, a command is refused: its caller is about to give up.
const QUEUED_MAX: Duration = Duration::from_millis(900);

type Reply = oneshot::Sender<Result<Answer, Failure>>;

struct Queued {
    command: Command,
    since: Instant,
    reply: Reply,
}

/// Where commands are handed in. Cheap to clone; the task ends when the last clone is gone.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Queued>,
}

impl Writer {
    /// Starts the two lanes.
    pub fn start(store: Store, moved: Moved) -> Self {
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let (patient_queue, patient_commands) = mpsc::channel(QUEUE_MAX);
        let patient = Lane { store: store.clone(), moved: moved.clone(), busy: None };
        let lane = Lane { store, moved, busy: Some(patient_queue) };
        tokio::spawn(lane.run(commands));
        tokio::spawn(patient.run(patient_commands));
        Self { queue }
    }

    /// Hands a command in and waits for its commit.
    pub async fn submit(&self, command: Command) -> Result<Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        let queued = Queued { command, since: Instant::now(), reply };
        self.queue.try_send(queued).map_err(|_| Failure::Overloaded)?;
        match answer.await.unwrap_or(Err(Failure::Unavailable))? {
            answer if answer.outcome == Outcome::Foreign => Err(Failure::NoSession),
            answer => Ok(answer),
        }
    }
}

struct Lane {
    store: Store,
    moved: Moved,
    /// Where commands for held rooms go; none in the lane that waits for them.
    busy: Option<mpsc::Sender<Queued>>,
}

impl Lane {
    async fn run(self, mut commands: mpsc::Receiver<Queued>) {
        let mut queued = Vec::with_capacity(BATCH_MAX);
        while commands.recv_many(&mut queued, BATCH_MAX).await > 0 {
            let fresh = refuse_old(queued.drain(..));
            match self.busy {
                Some(_) => self.apply(fresh).await,
                None => {
                    for group in by_room(fresh) {
                        self.apply(group).await;
                    }
                }
            }
        }
    }

    async fn apply(&self, batch: Vec<Queued>) {
        let held = if self.busy.is_some() { Held::Skip } else { Held::Wait };
        let (commands, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|q| (q.command, (q.since, q.reply))).unzip();
        match self.attempt(&commands, held).await {
            Ok(answers) => {
                (self.moved)(hints(&commands, &answers));
                for ((command, (since, reply)), answer) in commands.into_iter().zip(replies).zip(answers) {
                    if answer.outcome == Outcome::Busy {
                        self.step_aside(Queued { command, since, reply });
                    } else {
                        let _ = reply.send(Ok(answer)); // the caller may be gone; the command is done all the same
                    }
                }
            }
            Err(error) => self.fail(&error, commands, replies).await,
        }
    }

    /// Once more after a connection that was dead already: commands may be repeated, and after a restart of
    /// Postgres every pooled connection is dead.
    async fn attempt(&self, commands: &[Command], held: Held) -> Result<Vec<Answer>, StoreError> {
        let started = Instant::now();
        match bounded(self.store.apply(commands, held)).await {
            Err(StoreError::OutcomeUnknown | StoreError::Unavailable)
                if started.elapsed() < QUEUED_MAX / 3 =>
            {
                bounded(self.store.apply(commands, held)).await
            }
            result => result,
        }
    }

    /// One command with bad data, or one held user, fails a whole batch: the others are tried by themselves.
    async fn fail(&self, error: &StoreError, commands: Vec<Command>, replies: Vec<(Instant, Reply)>) {
        let alone = commands.len() == 1;
        let culprit_unknown = matches!(error, StoreError::Refused(_) | StoreError::Busy);
        if !alone || !culprit_unknown {
            tracing::warn!(%error, commands = commands.len(), "a batch of commands failed");
        }
        for (command, (since, reply)) in commands.into_iter().zip(replies) {
            match error {
                StoreError::Busy if self.busy.is_some() => self.step_aside(Queued { command, since, reply }),
                StoreError::Refused(_) if !alone => {
                    Box::pin(self.apply(vec![Queued { command, since, reply }])).await;
                }
                error => drop(reply.send(Err(error.into()))),
            }
        }
    }

    fn step_aside(&self, queued: Queued) {
        let Some(lane) = &self.busy else {
            return drop(queued.reply.send(Err(Failure::Busy)));
        };
        if let Err(mpsc::error::TrySendError::Full(queued) | mpsc::error::TrySendError::Closed(queued)) =
            lane.try_send(queued)
        {
            let _ = queued.reply.send(Err(Failure::Busy));
        }
    }
}

fn refuse_old(queued: impl Iterator<Item = Queued>) -> Vec<Queued> {
    let (fresh, old): (Vec<_>, Vec<_>) = queued.partition(|q| q.since.elapsed() < QUEUED_MAX);
    for queued in old {
        let _ = queued.reply.send(Err(Failure::Overloaded));
    }
    fresh
}

fn by_room(queued: Vec<Queued>) -> impl Iterator<Item = Vec<Queued>> {
    let mut groups: HashMap<RoomId, Vec<Queued>> = HashMap::new();
    for queued in queued {
        groups.entry(queued.command.room_id.clone()).or_default().push(queued);
    }
    groups.into_values()
}

fn hints(commands: &[Command], answers: &[Answer]) -> Vec<Hint> {
    let moved: HashMap<&RoomId, i64> =
        commands.iter().zip(answers).map(|(c, a)| (&c.room_id, a.cursor.version)).collect();
    moved.into_iter().map(|(room, version)| Hint { room: room.clone(), version }).collect()
}
