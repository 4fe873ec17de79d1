//! Delays between attempts to reach a server of our own (Redis, a peer, a stream) again.
//!
//! The only user of the `backoff` crate, and only for reconnects: the crate is unmaintained and
//! has a clock and a random source of its own, so it is unfit for anything that money depends on.

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use std::time::Duration;

/// A growing, jittered delay that never gives up.
#[derive(Debug)]
pub struct ReconnectDelay {
    inner: ExponentialBackoff,
    max: Duration,
}

impl ReconnectDelay {
    /// Starts at `initial`, doubles, and stays at `max`.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        // The builder resets itself, so the first delay really is `initial`; a struct literal
        // would start from the crate's own default.
        let inner = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial)
            .with_max_interval(max)
            .with_multiplier(2.0)
            .with_randomization_factor(0.3)
            .with_max_elapsed_time(None)
            .build();
        Self { inner, max }
    }

    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.inner.next_backoff().unwrap_or(self.max)
    }

    /// Call after a success: the next delay starts small again.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_start_at_the_initial_value_grow_to_the_cap_and_never_end() {
        let mut delay = ReconnectDelay::new(Duration::from_millis(100), Duration::from_secs(1));
        let first = delay.next_delay();
        assert!(first >= Duration::from_millis(70) && first <= Duration::from_millis(130), "{first:?}");
        for _ in 0..1000 {
            assert!(delay.next_delay() <= Duration::from_millis(1300));
        }
        delay.reset();
        assert!(delay.next_delay() <= Duration::from_millis(130));
    }
}
