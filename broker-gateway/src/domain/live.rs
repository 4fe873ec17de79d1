//! What is owed on an order that the broker is known to have: cancels and observations.

use super::outcome::{CancelOutcome, LookupOutcome, Refusal};
use time::{Duration, OffsetDateTime};

/// Requests of one kind (cancels, or observations) on one order: the newest one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owed {
    /// Number of the newest request; 0 when there was none.
    pub requested: i32,
    /// Number of the newest one that has its answer.
    pub answered: i32,
    /// How many calls for it told nothing.
    pub tries: i32,
}

impl Owed {
    /// Whether a request waits for its answer.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        self.requested > self.answered
    }

    /// The same with the newest request answered.
    #[must_use]
    pub const fn done(self) -> Self {
        Self { requested: self.requested, answered: self.requested, tries: 0 }
    }

    /// The same after one more call that told nothing.
    #[must_use]
    pub const fn tried(self) -> Self {
        Self { requested: self.requested, answered: self.answered, tries: self.tries.saturating_add(1) }
    }
}

/// How patient calls on living orders are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePolicy {
    /// How many calls that told nothing end a cancel request, or an observation.
    pub tries_max: i32,
    /// Wait after the first such call; doubles from there.
    pub delay_first: Duration,
    /// The longest wait.
    pub delay_max: Duration,
}

/// What follows from a call on a living order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Answered, with nothing to tell: the rest comes by the broker's stream.
    Answered,
    /// The broker will not cancel, or we give up asking. Not an end of the order.
    CancelRefused(Refusal),
    /// The observation is to be told.
    Observed,
    /// No observation could be made; said in a metric, and asked again by whoever needs it.
    GaveUp {
        /// The last thing seen.
        reason: String,
    },
    /// Again at this moment.
    Again(OffsetDateTime),
}

/// What follows from the end of a cancel call. It never ends the order: 204, 404 and 422 are
/// answers to the request, and only the broker's stream or a lookup tells how the order ended.
#[must_use]
pub fn after_cancel(policy: &LivePolicy, owed: Owed, outcome: &CancelOutcome, now: OffsetDateTime) -> (Owed, Verdict) {
    let give_up = |what: String| Verdict::CancelRefused(Refusal { code: 0, message: what });
    match outcome {
        CancelOutcome::Requested => (owed.done(), Verdict::Answered),
        CancelOutcome::Refused(refusal) => (owed.done(), Verdict::CancelRefused(refusal.clone())),
        CancelOutcome::NotFound => {
            again(policy, owed, now, || give_up("the broker does not find the order".to_owned()))
        }
        CancelOutcome::Unknown { reason } => {
            again(policy, owed, now, || give_up(format!("no usable answer to the cancel: {reason}")))
        }
        CancelOutcome::NotSent { .. } => (owed, Verdict::Again(now.saturating_add(policy.delay_max))),
        CancelOutcome::RateLimited { retry_after } => (owed, Verdict::Again(wait(policy, *retry_after, now))),
    }
}

/// What follows from the end of an observation.
#[must_use]
pub fn after_observation(
    policy: &LivePolicy,
    owed: Owed,
    outcome: &LookupOutcome,
    now: OffsetDateTime,
) -> (Owed, Verdict) {
    match outcome {
        LookupOutcome::Found(_) => (owed.done(), Verdict::Observed),
        LookupOutcome::None => again(policy, owed, now, || Verdict::GaveUp {
            reason: "the broker does not find an order that it has shown before".to_owned(),
        }),
        // Somebody waits for the answer, so only an answer ends it.
        LookupOutcome::Unknown { .. } | LookupOutcome::NotSent { .. } => {
            (owed, Verdict::Again(now.saturating_add(policy.delay_max)))
        }
        LookupOutcome::RateLimited { retry_after } => (owed, Verdict::Again(wait(policy, *retry_after, now))),
    }
}

fn again(policy: &LivePolicy, owed: Owed, now: OffsetDateTime, give_up: impl FnOnce() -> Verdict) -> (Owed, Verdict) {
    let tried = owed.tried();
    if tried.tries >= policy.tries_max {
        return (owed.done(), give_up());
    }
    let doublings = u32::try_from(tried.tries.saturating_sub(1)).unwrap_or(0).min(20);
    let factor = 1_i32.checked_shl(doublings).unwrap_or(1);
    let delay = policy.delay_first.checked_mul(factor).unwrap_or(policy.delay_max).min(policy.delay_max);
    (tried, Verdict::Again(now.saturating_add(delay)))
}

fn wait(policy: &LivePolicy, retry_after: Option<std::time::Duration>, now: OffsetDateTime) -> OffsetDateTime {
    let asked = retry_after.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or(policy.delay_first);
    now.saturating_add(asked.min(policy.delay_max).max(policy.delay_first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: LivePolicy =
        LivePolicy { tries_max: 3, delay_first: Duration::SECOND, delay_max: Duration::seconds(10) };
    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const FIRST: Owed = Owed { requested: 1, answered: 0, tries: 0 };

    #[test]
    fn a_cancel_that_is_taken_ends_nothing() {
        let (owed, verdict) = after_cancel(&POLICY, FIRST, &CancelOutcome::Requested, NOW);
        assert!(!owed.is_pending());
        assert_eq!(verdict, Verdict::Answered);
    }

    #[test]
    fn a_cancel_that_finds_nothing_is_tried_boundedly_and_then_refused_never_terminal() {
        let (mut owed, mut verdict) = after_cancel(&POLICY, FIRST, &CancelOutcome::NotFound, NOW);
        let mut calls = 1;
        while let Verdict::Again(at) = verdict {
            assert!(at > NOW);
            (owed, verdict) = after_cancel(&POLICY, owed, &CancelOutcome::NotFound, NOW);
            calls += 1;
        }
        assert_eq!(calls, 3);
        assert!(matches!(verdict, Verdict::CancelRefused(_)));
        assert!(!owed.is_pending());
    }

    #[test]
    fn an_unreachable_broker_does_not_use_up_the_tries_of_a_cancel() {
        let not_sent = CancelOutcome::NotSent { reason: "refused".to_owned() };
        let (owed, verdict) = after_cancel(&POLICY, FIRST, &not_sent, NOW);
        assert_eq!((owed.tries, owed.is_pending()), (0, true));
        assert!(matches!(verdict, Verdict::Again(_)));
    }

    #[test]
    fn a_newer_cancel_request_is_pending_again() {
        let (owed, _) = after_cancel(&POLICY, FIRST, &CancelOutcome::Requested, NOW);
        assert!(Owed { requested: 2, ..owed }.is_pending());
    }
}
