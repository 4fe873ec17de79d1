//! How long customers waited for an answer that meant something.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The longest time between two definite answers to any customer.
#[derive(Debug, Default)]
pub struct Availability {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Instant>,
    longest: Duration,
}

impl Availability {
    /// An order was accepted or refused now.
    pub fn answered(&self) {
        self.answered_at(Instant::now());
    }

    fn answered_at(&self, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.last {
            seen.longest = seen.longest.max(now.saturating_duration_since(last));
        }
        seen.last = Some(now);
    }

    /// The longest time without an answer, between the first and the last one.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_between_two_answers_counts_and_not_the_time_before_the_first() {
        let (availability, start) = (Availability::default(), Instant::now());
        assert_eq!(availability.longest_gap(), Duration::ZERO);
        for ms in [5_000, 5_100, 7_400, 7_500] {
            availability.answered_at(start + Duration::from_millis(ms));
        }
        assert_eq!(availability.longest_gap(), Duration::from_millis(2_300));
    }
}
