//! Watchers that are gone and of which the feed has not heard yet.
//!
//! When thousands of streams of many rooms end at once, that is tens of thousands of watchers. They are counted by room,
//! and reported in messages of [`GONE_MAX`] rooms, between which the worker passes on frames.

use std::collections::HashMap;

use crate::domain::id::RoomId;

/// Rooms in one message, at most: some 0.1 ms of work for the worker, and for the feed.
pub(super) const GONE_MAX: usize = 1000;

#[derive(Default)]
pub(super) struct Gone(HashMap<RoomId, usize>);

impl Gone {
    pub(super) fn add(&mut self, room: &RoomId) {
        match self.0.get_mut(room) {
            Some(watchers) => *watchers += 1,
            None => drop(self.0.insert(room.clone(), 1)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the watchers of some rooms, of at most [`GONE_MAX`].
    pub(super) fn take(&mut self) -> Vec<(RoomId, usize)> {
        if self.0.len() <= GONE_MAX {
            return std::mem::take(&mut self.0).into_iter().collect();
        }
        let rooms: Vec<RoomId> = self.0.keys().take(GONE_MAX).cloned().collect();
        rooms.into_iter().filter_map(|room| self.0.remove_entry(&room)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(streams: usize, rooms_of: impl Fn(usize) -> Vec<usize>) -> Vec<Vec<(RoomId, usize)>> {
        let mut gone = Gone::default();
        for room in (0..streams).flat_map(rooms_of) {
            gone.add(&RoomId::parse(&format!("room{room}")).unwrap());
        }
        let messages = std::iter::from_fn(|| (!gone.is_empty()).then(|| gone.take())).collect();
        assert!(gone.is_empty());
        messages
    }

    #[test]
    fn streams_that_end_at_once_are_few_messages_of_bounded_size() {
        // The same 32 rooms.
        let same = messages(2000, |_| (0..32).collect());
        assert_eq!(same.len(), 1);
        assert!(same[0].len() == 32 && same[0].iter().all(|(_, watchers)| *watchers == 2000));
        // 32 rooms of its own for each.
        let own = messages(2000, |stream| (0..32).map(|room| stream * 32 + room).collect());
        assert_eq!(own.len(), 64);
        assert!(own.iter().all(|message| message.len() == GONE_MAX));
        assert!(own.iter().flatten().all(|(_, watchers)| *watchers == 1));
    }
}
