//! The clock and the source of ids, injected so that tests choose both.

use time::OffsetDateTime;
use uuid::Uuid;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now, in UTC.
    fn now(&self) -> OffsetDateTime;
}

/// Mints ids.
pub trait IdSource: Send + Sync + 'static {
    /// A fresh id that sorts by time (UUID version 7).
    fn uuid(&self) -> Uuid;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        // PostgreSQL keeps microseconds; a finer time would not read back as it was written.
        let now = OffsetDateTime::now_utc();
        now.replace_microsecond(now.microsecond()).unwrap_or(now)
    }
}

/// Fresh version 7 ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_gives_whole_microseconds() {
        assert_eq!(SystemClock.now().nanosecond() % 1000, 0);
    }
}
