//! Picks the queued commands of the next batch. Two batches may be in flight at once: while one waits for its
//! commit, the database works on the other. They never have a room or a user in common, so neither waits for
//! a lock of the other, and commands about the same user in the same room keep their order.
//!
//! A batch by itself costs as much as some seven commands, so a second one starts only when it is large
//! enough.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::domain::id::{RoomId, UserId};

/// Batches in flight, at most.
pub(super) const IN_FLIGHT_MAX: usize = 2;

/// The least size of a second batch: its fixed cost is then a tenth of the whole.
const COMPANY_MIN: usize = 64;

/// The room and the user that a command needs exclusively.
pub(super) trait Needs {
    fn room(&self) -> &RoomId;
    fn user(&self) -> &UserId;
}

#[derive(Default)]
struct Taken {
    rooms: HashSet<RoomId>,
    users: HashSet<UserId>,
}

/// The queue in order of arrival, and the rooms and users of the batches in flight. `K` names a batch.
pub(super) struct Schedule<T, K> {
    waiting: Vec<T>,
    under_way: HashMap<K, Taken>,
    /// After a vain search, the queue is not searched again before it is this long.
    look_again_at: usize,
}

impl<T: Needs, K: Eq + Hash> Schedule<T, K> {
    pub fn new() -> Self {
        Self { waiting: Vec::new(), under_way: HashMap::new(), look_again_at: 0 }
    }

    /// The queue. New commands are pushed to its end.
    pub fn waiting(&mut self) -> &mut Vec<T> {
        &mut self.waiting
    }

    /// The next batch, of at most `most` commands; none if it must wait.
    pub fn next(&mut self, most: usize) -> Option<Vec<T>> {
        let company = match self.under_way.len() {
            0 => 1,
            1..IN_FLIGHT_MAX => COMPANY_MIN,
            _ => return None,
        };
        if self.waiting.len() < company.max(self.look_again_at) {
            return None;
        }
        let free: Vec<bool> = self.waiting.iter().map(|command| self.is_free(command)).collect();
        if free.iter().filter(|free| **free).count() < company {
            self.look_again_at = self.waiting.len() + COMPANY_MIN;
            return None;
        }
        let mut batch = Vec::new();
        let mut rest = Vec::with_capacity(self.waiting.len());
        for (command, free) in self.waiting.drain(..).zip(free) {
            if free && batch.len() < most { &mut batch } else { &mut rest }.push(command);
        }
        self.waiting = rest;
        Some(batch)
    }

    fn is_free(&self, command: &T) -> bool {
        self.under_way
            .values()
            .all(|taken| !taken.rooms.contains(command.room()) && !taken.users.contains(command.user()))
    }

    /// Notes that the batch is in flight.
    pub fn begun(&mut self, name: K, taken: (HashSet<RoomId>, HashSet<UserId>)) {
        let (rooms, users) = taken;
        self.under_way.insert(name, Taken { rooms, users });
    }

    /// Notes that the batch has ended.
    pub fn done(&mut self, name: &K) {
        self.under_way.remove(name);
        self.look_again_at = 0;
    }
}

/// The rooms and users of a batch.
pub(super) fn taken_by<T: Needs>(batch: &[T]) -> (HashSet<RoomId>, HashSet<UserId>) {
    batch.iter().map(|command| (command.room().clone(), command.user().clone())).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stub(RoomId, UserId, usize);

    impl Needs for Stub {
        fn room(&self) -> &RoomId {
            &self.0
        }

        fn user(&self) -> &UserId {
            &self.1
        }
    }

    fn stub(room: usize, user: usize, number: usize) -> Stub {
        Stub(RoomId::parse(&format!("r{room}")).unwrap(), UserId::parse(&format!("u{user}")).unwrap(), number)
    }

    fn begin(schedule: &mut Schedule<Stub, usize>, name: usize) -> Option<Vec<usize>> {
        let batch = schedule.next(500)?;
        schedule.begun(name, taken_by(&batch));
        Some(batch.into_iter().map(|stub| stub.2).collect())
    }

    #[test]
    fn batches_under_way_share_no_room_and_no_user() {
        let mut schedule = Schedule::new();
        schedule.waiting().push(stub(0, 0, 0));
        assert_eq!(begin(&mut schedule, 1), Some(vec![0]));
        schedule.waiting().extend([stub(0, 1, 1), stub(1, 0, 2)]);
        schedule.waiting().extend((3..100).map(|number| stub(number, number, number)));
        assert_eq!(begin(&mut schedule, 2), Some((3..100).collect()));
        assert_eq!(begin(&mut schedule, 3), None, "two are under way");
        schedule.done(&1);
        schedule.done(&2);
        assert_eq!(begin(&mut schedule, 3), Some(vec![1, 2]));
    }

    #[test]
    fn a_second_batch_begins_only_when_it_is_worth_it() {
        let mut schedule = Schedule::new();
        schedule.waiting().push(stub(0, 0, 0));
        assert!(begin(&mut schedule, 1).is_some());
        schedule.waiting().extend((1..COMPANY_MIN).map(|number| stub(number, number, number)));
        assert_eq!(begin(&mut schedule, 2), None);
        schedule.waiting().push(stub(COMPANY_MIN, COMPANY_MIN, COMPANY_MIN));
        assert_eq!(begin(&mut schedule, 2).map(|batch| batch.len()), Some(COMPANY_MIN));
    }

    #[test]
    fn one_room_has_one_batch_at_a_time_in_the_order_of_coming() {
        let mut schedule = Schedule::new();
        schedule.waiting().extend((0..600).map(|number| stub(0, number, number)));
        assert_eq!(begin(&mut schedule, 1), Some((0..500).collect()));
        assert_eq!(begin(&mut schedule, 2), None);
        schedule.done(&1);
        assert_eq!(begin(&mut schedule, 2), Some((500..600).collect()));
    }
}
