//! Budgets of users: a rate of units, of which a call takes as many as it costs. What it cost is often known only
//! afterwards, so a user may owe: whoever has anything left may call, and whoever owes waits.
//!
//! `governor`, which counts the plain rates, refuses a call that costs more than is left. It could neither charge afterwards
//! nor ever let a call through that costs more than the whole allowance.
//!
//! Bounded: accounts that owe nothing are forgotten, and no call is paid for longer than [`DEBT_MAX`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::quota::Quota;
use crate::domain::id::UserId;

/// As much is there at once as comes in this time.
pub const WINDOW: Duration = Duration::from_secs(5);

/// Past the window, what a user owes is forgotten beyond this.
const DEBT_MAX: Duration = Duration::from_secs(60);

/// A rate of units for each user; none where it is switched off.
pub struct Budget {
    policy: &'static str,
    per_second: u32,
    /// When what the user has used will have come back.
    settled_at: Mutex<HashMap<UserId, Instant>>,
}

impl Budget {
    /// So many units a second; 0 for no limit.
    pub fn new(policy: &'static str, per_second: u32) -> Self {
        Self { policy, per_second, settled_at: Mutex::default() }
    }

    /// Takes units, unless the user has none left. Gives what is left, or the time until there is one.
    pub fn take(&self, user: &UserId, units: u32, now: Instant) -> Result<Option<Quota>, (Quota, Duration)> {
        let Some(unit) = self.unit() else { return Ok(None) };
        let mut accounts = self.settled_at.lock().unwrap_or_else(PoisonError::into_inner);
        let used = accounts.get(user).map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if used + unit > WINDOW {
            return Err((self.quota(used), used + unit - WINDOW));
        }
        let used = after(used, unit, units);
        accounts.insert(user.clone(), now + used);
        Ok(Some(self.quota(used)))
    }

    /// Takes units, whether or not there are so many left.
    pub fn charge(&self, user: &UserId, units: u32, now: Instant) -> Option<Quota> {
        let unit = self.unit()?;
        let mut accounts = self.settled_at.lock().unwrap_or_else(PoisonError::into_inner);
        let used = accounts.get(user).map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let used = after(used, unit, units);
        accounts.insert(user.clone(), now + used);
        Some(self.quota(used))
    }

    /// Forgets who has used nothing of late.
    pub fn forget(&self, now: Instant) {
        let mut accounts = self.settled_at.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, at| *at > now);
        accounts.shrink_to_fit();
    }

    fn unit(&self) -> Option<Duration> {
        Duration::from_secs(1).checked_div(self.per_second)
    }

    fn quota(&self, used: Duration) -> Quota {
        let units = |time: Duration| (time.as_secs_f64() * f64::from(self.per_second)).round() as u64;
        let whole = used.as_secs() + u64::from(used.subsec_nanos() > 0);
        Quota {
            policy: self.policy,
            most: units(WINDOW),
            window: Some(WINDOW.as_secs()),
            left: units(WINDOW.saturating_sub(used)),
            reset: Some(whole),
        }
    }
}

fn after(used: Duration, unit: Duration, units: u32) -> Duration {
    (used + unit.saturating_mul(units)).min((WINDOW + DEBT_MAX).max(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn a_call_may_cost_more_than_is_left_and_the_next_one_waits_until_it_is_paid() {
        let (budget, now) = (Budget::new("events", 100), Instant::now());
        let (ann, bob) = (user("ann"), user("bob"));
        assert_eq!(budget.take(&ann, 400, now).unwrap().unwrap().left, 100);
        assert_eq!(budget.take(&ann, 400, now).unwrap().unwrap().left, 0);
        let (quota, wait) = budget.take(&ann, 1, now).unwrap_err();
        assert_eq!((quota.most, quota.left, quota.reset), (500, 0, Some(8)));
        assert_eq!(wait, Duration::from_millis(3010), "300 over, and the one that is asked for");
        assert!(budget.take(&ann, 1, now + wait).is_ok());
        assert!(budget.take(&bob, 1, now).is_ok());
    }

    #[test]
    fn what_is_charged_afterwards_counts_and_is_paid_for_a_minute_at_most() {
        let (budget, now) = (Budget::new("reads", 1), Instant::now());
        let ann = user("ann");
        budget.charge(&ann, 1_000_000, now);
        let (_, wait) = budget.take(&ann, 1, now).unwrap_err();
        assert_eq!(wait, DEBT_MAX + Duration::from_secs(1));
        budget.forget(now);
        assert!(budget.take(&ann, 1, now).is_err(), "who owes is not forgotten");
        budget.forget(now + WINDOW + DEBT_MAX);
        assert!(budget.settled_at.lock().unwrap().is_empty());
    }

    #[test]
    fn a_budget_that_is_switched_off_refuses_nobody() {
        let budget = Budget::new("reads", 0);
        assert!(budget.take(&user("ann"), u32::MAX, Instant::now()).unwrap().is_none());
        assert!(budget.charge(&user("ann"), u32::MAX, Instant::now()).is_none());
    }
}
