//! A circuit breaker for a server that is helpful but not needed: when it fails, calls are skipped
//! at once, and a background probe (never a caller) finds out when it is back.
//!
//! Pure: the time is given. A timeout weighs more than a refusal, because a refusal costs nothing
//! and every hanging call costs its whole timeout.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// Refusals in a row that open it.
    pub failures_to_open: u32,
    /// Timeouts in a row that open it.
    pub timeouts_to_open: u32,
    /// Time between two probes while it is open.
    pub open_ms: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures_to_open: 3, timeouts_to_open: 1, open_ms: 1_000 }
    }
}

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// An answer, or a connection, that says no.
    Refused,
    /// No answer in time.
    TimedOut,
}

/// Whether calls go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls are skipped.
    Open,
}

/// The state of one breaker.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    failures: u32,
    timeouts: u32,
    /// When the next probe is due; none while closed.
    probe_at: Option<Instant>,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub const fn new(config: BreakerConfig) -> Self {
        Self { config, failures: 0, timeouts: 0, probe_at: None }
    }

    /// Closed or open.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        match self.probe_at {
            None => BreakerState::Closed,
            Some(_) => BreakerState::Open,
        }
    }

    /// Whether a caller may call.
    #[must_use]
    pub const fn allows(&self) -> bool {
        self.probe_at.is_none()
    }

    /// When the next probe is due; none while closed.
    #[must_use]
    pub const fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// A call or probe was answered: closes.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
        self.timeouts = 0;
        self.probe_at = None;
    }

    /// A call or probe failed. Answers whether this opened it.
    pub fn failed(&mut self, failure: Failure, now: Instant) -> bool {
        match failure {
            Failure::Refused => self.failures = self.failures.saturating_add(1),
            Failure::TimedOut => self.timeouts = self.timeouts.saturating_add(1),
        }
        let was_closed = self.allows();
        let opens = self.timeouts >= self.config.timeouts_to_open.max(1)
            || self.failures.saturating_add(self.timeouts) >= self.config.failures_to_open.max(1);
        if opens || !was_closed {
            self.probe_at = Some(now + Duration::from_millis(self.config.open_ms));
        }
        was_closed && opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(BreakerConfig { failures_to_open: 3, timeouts_to_open: 1, open_ms: 500 }), Instant::now())
    }

    #[test]
    fn one_timeout_opens_it_but_refusals_need_a_row() {
        let (mut b, now) = breaker();
        assert!(b.failed(Failure::TimedOut, now));
        assert_eq!(b.state(), BreakerState::Open);
        let (mut b, now) = breaker();
        assert!(!b.failed(Failure::Refused, now));
        assert!(!b.failed(Failure::Refused, now));
        assert!(b.allows());
        assert!(b.failed(Failure::Refused, now));
        assert!(!b.allows());
    }

    #[test]
    fn a_success_between_refusals_starts_the_row_again() {
        let (mut b, now) = breaker();
        b.failed(Failure::Refused, now);
        b.failed(Failure::Refused, now);
        b.succeeded();
        b.failed(Failure::Refused, now);
        assert!(b.allows());
    }

    #[test]
    fn a_failed_probe_moves_the_next_one_and_a_good_one_closes() {
        let (mut b, now) = breaker();
        b.failed(Failure::TimedOut, now);
        assert_eq!(b.probe_at(), Some(now + Duration::from_millis(500)));
        let later = now + Duration::from_millis(600);
        assert!(!b.failed(Failure::TimedOut, later), "it was open already");
        assert_eq!(b.probe_at(), Some(later + Duration::from_millis(500)));
        b.succeeded();
        assert!(b.allows());
    }

    proptest! {
        #[test]
        fn it_is_open_exactly_when_a_probe_is_due_and_never_after_a_success(
            steps in prop::collection::vec(0_u8..3, 0..60)
        ) {
            let (mut b, now) = breaker();
            for step in steps {
                match step {
                    0 => b.succeeded(),
                    1 => { b.failed(Failure::Refused, now); }
                    _ => { b.failed(Failure::TimedOut, now); }
                }
                prop_assert_eq!(b.allows(), b.probe_at().is_none());
                if step == 0 { prop_assert!(b.allows()); }
                if step == 2 { prop_assert!(!b.allows()); }
            }
        }
    }
}
