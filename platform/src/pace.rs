//! Few large transactions instead of many small ones, for a stage that is under load.
//!
//! Most of what a transaction costs it costs once, however much it carries. A stage that begins the
//! next one as soon as the last has ended makes them small, spends the processor on their fixed part
//! and so falls behind the stages that feed it.

use std::time::Duration;
use tokio::time::Instant;

/// Fewer items in a transaction are no sign of load.
const BUSY_LEN_MIN: usize = 8;

/// Fewer items a second are none either: below this, whatever comes takes effect at once.
const BUSY_PER_S_MIN: u128 = 400;

/// When a stage begins its next transaction: while it is under load, not before a stated time after
/// the last one began, so that more can gather, and otherwise at once. A full transaction is followed
/// at once, too: more has gathered than it could take.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: Duration,
    full_len: usize,
    last: Option<Instant>,
    next: Option<Instant>,
}

impl Pace {
    /// A pace whose transactions of fewer than `full_len` items begin at least `interval` apart while
    /// there is load. A zero interval never waits.
    #[must_use]
    pub const fn new(interval: Duration, full_len: usize) -> Self {
        Self { interval, full_len, last: None, next: None }
    }

    /// Notes a transaction of `len` items that began at `began`.
    pub fn worked(&mut self, began: Instant, len: usize) {
        let since = self.last.map_or(self.interval, |last| began.saturating_duration_since(last).min(self.interval));
        // Items a second, without a division: len / since >= the rate.
        let busy = u128::try_from(len).unwrap_or(u128::MAX).saturating_mul(1_000) >= since.as_millis() * BUSY_PER_S_MIN;
        self.next = (busy && len >= BUSY_LEN_MIN && len < self.full_len).then(|| began + self.interval);
        self.last = Some(began);
    }

    /// The moment to wait for; none when the next transaction may begin.
    #[must_use]
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// Waits until the next transaction may begin.
    pub async fn wait(&self) {
        if let Some(next) = self.wait_until(Instant::now()) {
            tokio::time::sleep_until(next).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    #[test]
    fn a_stage_under_load_waits_and_counts_from_the_beginning_of_its_last_transaction() {
        let began = Instant::now();
        let mut pace = Pace::new(INTERVAL, 512);
        assert_eq!(pace.wait_until(began), None, "before the first");
        pace.worked(began, 40);
        assert_eq!(pace.wait_until(began), Some(began + INTERVAL));
        assert_eq!(pace.wait_until(began + INTERVAL), None, "the time is over");
    }

    #[test]
    fn few_items_wait_for_no_company() {
        let began = Instant::now();
        let mut pace = Pace::new(INTERVAL, 512);
        let soon = began + Duration::from_millis(5);
        pace.worked(began, 1);
        pace.worked(soon, BUSY_LEN_MIN - 1);
        assert_eq!(pace.wait_until(soon), None);
        pace.worked(soon + Duration::from_millis(5), BUSY_LEN_MIN);
        assert!(pace.wait_until(soon).is_some(), "eight in five milliseconds are load");
    }

    #[test]
    fn a_stage_stops_waiting_when_its_load_is_over() {
        let began = Instant::now();
        let mut pace = Pace::new(INTERVAL, 512);
        pace.worked(began, 40);
        let next = began + INTERVAL;
        pace.worked(next, 39);
        assert_eq!(pace.wait_until(next), None, "39 in a tenth of a second");
    }

    #[test]
    fn a_full_transaction_is_followed_at_once() {
        let began = Instant::now();
        let mut pace = Pace::new(INTERVAL, 512);
        pace.worked(began, 512);
        assert_eq!(pace.wait_until(began), None);
    }

    #[test]
    fn without_an_interval_nobody_waits() {
        let began = Instant::now();
        let mut pace = Pace::new(Duration::ZERO, usize::MAX);
        pace.worked(began, 1_000);
        assert_eq!(pace.wait_until(began), None);
    }
}
