//! Commands that one call makes together, such as the joins of many rooms by a session: one transaction, and an outcome for
//! each command. They pass by the [`writer`](super::writer), whose batches are split by rooms.
//!
//! Bounded: [`RUNNING_MAX`] transactions at once, beside those of the writer; more callers wait for at most [`ASIDE_MAX`]. Every
//! caller is answered within [`ANSWER_MAX`].

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, Span};

use super::error::CommandError;
use super::writer::{ANSWER_MAX, ASIDE_MAX, Answers, CommandResult, Lane, OnCommit, hints, told};
use crate::measure::spans;
use crate::store::commands::{Answer, Command, IfHeld, Outcome, UserLimits};
use crate::store::{Store, StoreError};

/// Transactions at once, at most.
const RUNNING_MAX: usize = 2;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Together {
    lane: Arc<Lane>,
    running: Arc<Semaphore>,
}

impl Together {
    /// With the limits and the callback of the writer.
    pub fn new(store: Store, limits: UserLimits, moved: OnCommit) -> Self {
        let lane = Arc::new(Lane::new(store, limits, moved));
        Self { lane, running: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }

    /// Applies commands in one transaction of their own and waits for its commit. Each command has its own outcome.
    /// Those whose room or user is locked are skipped, and then tried once more in a second transaction that waits.
    pub async fn submit(&self, commands: Vec<Command>) -> Result<Vec<CommandResult>, CommandError> {
        let deadline = Instant::now() + ANSWER_MAX;
        let turn = timeout(ASIDE_MAX, self.running.clone().acquire_owned()).await;
        let permit = turn.map_err(|_| CommandError::Overloaded)?.map_err(|_| CommandError::Unavailable)?;
        let lane = self.lane.clone();
        // A task of its own: a client that goes away must not cancel a transaction.
        let task = tokio::spawn(
            async move {
                let _permit = permit;
                apply(&lane, &commands).await
            }
            .instrument(Span::current()),
        );
        match timeout_at(deadline, task).await {
            Ok(Ok(results)) => results,
            Ok(Err(_)) => Err(CommandError::Internal),
            Err(_) => Err(CommandError::OutcomeUnknown),
        }
    }
}

async fn apply(lane: &Lane, commands: &[Command]) -> Result<Vec<CommandResult>, CommandError> {
    let answers = committed(lane, commands, IfHeld::Skip).await?;
    let held =
        |(command, answer): (&Command, &Result<Answer, StoreError>)| is_busy(answer).then(|| command.clone());
    let again: Vec<Command> = commands.iter().zip(&answers).filter_map(held).collect();
    if again.is_empty() {
        return Ok(answers.into_iter().map(settled).collect());
    }
    let mut late = match committed(lane, &again, IfHeld::Wait).await {
        Ok(answers) => answers.into_iter().map(settled).collect(),
        Err(error) => vec![Err(error); again.len()],
    }
    .into_iter();
    let all = answers.into_iter().map(|answer| match is_busy(&answer) {
        true => late.next().unwrap_or(Err(CommandError::Busy)),
        false => settled(answer),
    });
    Ok(all.collect())
}

async fn committed(lane: &Lane, commands: &[Command], held: IfHeld) -> Result<Answers, CommandError> {
    let span = spans::batch(std::iter::once(&Span::current()), commands.len());
    let answers = lane.measured(commands, held).instrument(span).await.map_err(|error| {
        tracing::warn!(%error, commands = commands.len(), "a group of commands failed");
        CommandError::from(&error)
    })?;
    (lane.moved)(hints(commands, &answers));
    Ok(answers)
}

fn settled(answer: Result<Answer, StoreError>) -> CommandResult {
    answer.map_err(|error| CommandError::from(&error)).and_then(told)
}

fn is_busy(answer: &Result<Answer, StoreError>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.outcome == Outcome::Busy)
}
