//! What an answer says of the limits that its request was held to: `RateLimit-Policy` and `RateLimit`, as in
//! draft-ietf-httpapi-ratelimit-headers-10 (lists of structured fields, RFC 9651).
//!
//! A limit notes its quota when it is applied, and the guard, around every handler, puts what was noted into the answer; so no
//! handler has to pass it on. Bounded: one quota for each policy, the one of which least is left.

use std::cell::RefCell;
use std::fmt::Display;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

/// The limits that were applied.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is left of each.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

tokio::task_local! {
    static APPLIED: RefCell<Vec<Quota>>;
}

/// One limit, and what one caller has left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Its name.
    pub policy: &'static str,
    /// Units at once, at most.
    pub most: u64,
    /// Seconds in which as many come back; none for what is given back, such as places of streams.
    pub window: Option<u64>,
    /// Units left.
    pub left: u64,
    /// Seconds until all are back.
    pub reset: Option<u64>,
}

impl Quota {
    fn policy(&self) -> String {
        format!("\"{}\";q={}{}", self.policy, self.most, parameter("w", self.window))
    }

    fn state(&self) -> String {
        format!("\"{}\";r={}{}", self.policy, self.left, parameter("t", self.reset))
    }
}

fn parameter(name: &str, value: Option<impl Display>) -> String {
    value.map(|value| format!(";{name}={value}")).unwrap_or_default()
}

/// Notes that a limit was applied to the request that is being answered.
pub fn note(quota: Quota) {
    // Outside of a request nobody is told.
    let _ = APPLIED.try_with(|applied| {
        let mut applied = applied.borrow_mut();
        match applied.iter_mut().find(|noted| noted.policy == quota.policy) {
            Some(noted) if noted.left <= quota.left => {}
            Some(noted) => *noted = quota,
            None => applied.push(quota),
        }
    });
}

/// Answers a request. Gives also the quotas that were noted meanwhile.
pub async fn noting<T>(answering: impl Future<Output = T>) -> (T, Vec<Quota>) {
    let answered = async {
        let answer = answering.await;
        (answer, APPLIED.with(RefCell::take))
    };
    APPLIED.scope(RefCell::default(), answered).await
}

/// Puts quotas into the headers of an answer.
pub fn tell(quotas: &[Quota], headers: &mut HeaderMap) {
    if quotas.is_empty() {
        return;
    }
    let list = |text: fn(&Quota) -> String| {
        HeaderValue::from_str(&quotas.iter().map(text).collect::<Vec<_>>().join(", "))
            .expect("names and numbers may be in a header")
    };
    headers.insert(RATE_LIMIT_POLICY, list(Quota::policy));
    headers.insert(RATE_LIMIT, list(Quota::state));
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITES: Quota = Quota { policy: "writes", most: 500, window: Some(5), left: 499, reset: Some(1) };
    const STREAMS: Quota = Quota { policy: "streams", most: 200, window: None, left: 3, reset: None };

    #[test]
    fn quotas_are_lists_of_structured_fields() {
        let mut headers = HeaderMap::new();
        tell(&[WRITES, STREAMS], &mut headers);
        assert_eq!(headers.get(RATE_LIMIT_POLICY).unwrap(), "\"writes\";q=500;w=5, \"streams\";q=200");
        assert_eq!(headers.get(RATE_LIMIT).unwrap(), "\"writes\";r=499;t=1, \"streams\";r=3");
    }

    #[tokio::test]
    async fn of_one_policy_the_least_that_is_left_is_told() {
        let ((), quotas) = noting(async {
            for left in [7, 3, 5] {
                note(Quota { left, ..WRITES });
            }
            note(STREAMS);
        })
        .await;
        assert_eq!(quotas, [Quota { left: 3, ..WRITES }, STREAMS]);
        note(WRITES); // outside of a request: nobody is told
    }
}
