//! The share of the main pool that readers may use at once, so that however much is asked, writers find a connection.
//!
//! Bounded: half of the connections, and [`WAITING_MAX`] readers that wait for one of them. One more is refused as
//! overloaded, and so is whoever has waited for [`ACQUIRE_MAX`].

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::StoreError;
use super::checkout::ACQUIRE_MAX;

/// Readers that wait for each connection, at most: at 2 ms each the last of them waits for 50 ms.
const WAITING_MAX: usize = 25;

/// Readers at work, and those that wait.
#[derive(Debug)]
pub(super) struct Readers {
    places: Semaphore,
    turns: Semaphore,
}

/// A reader that may use a connection.
pub(super) struct Turn<'a> {
    _turn: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl Readers {
    /// Half of these connections.
    pub(super) fn of(connections_max: u32) -> Self {
        let turns = usize::try_from(connections_max / 2).unwrap_or(1).max(1);
        Self { places: Semaphore::new(turns * (1 + WAITING_MAX)), turns: Semaphore::new(turns) }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, StoreError> {
        let place = self.places.try_acquire().map_err(|_| StoreError::Overloaded)?;
        let turn = timeout(ACQUIRE_MAX, self.turns.acquire()).await.map_err(|_| StoreError::Overloaded)?;
        Ok(Turn { _turn: turn.map_err(|_| StoreError::Unavailable)?, _place: place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_take_half_of_the_connections_and_no_more_wait_than_have_a_place() {
        let readers = Readers::of(3);
        let turn = readers.turn().await.expect("the first has a turn");
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(readers.turn())).collect();
        let mut waiting = futures_util::future::join_all(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending(), "one of three: half");
        assert!(matches!(readers.turn().await, Err(StoreError::Overloaded)));
        drop(waiting);
        drop(turn);
        assert!(readers.turn().await.is_ok());
    }
}
