//! Token buckets by name, in whole numbers: so many a minute, and so many at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use time::{Duration, OffsetDateTime};

const MINUTE_NS: i128 = 60_000_000_000;

/// Shortest time between two sweeps of a table that is at its limit.
const SWEEP_PAUSE: Duration = Duration::seconds(1);

/// How fast a bucket fills, and how much it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in a minute.
    pub per_minute: NonZeroU32,
    /// Tokens that a full bucket has.
    pub burst: NonZeroU32,
}

impl Rate {
    fn token_ns(self) -> i128 {
        MINUTE_NS / i128::from(self.per_minute.get())
    }

    fn full_ns(self) -> i128 {
        self.token_ns() * i128::from(self.burst.get())
    }
}

/// What a bucket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether there was a token.
    pub admitted: bool,
    /// Tokens that come in a minute.
    pub limit: u32,
    /// Tokens that are left.
    pub remaining: u32,
    /// When the bucket is full again.
    pub full_at: OffsetDateTime,
    /// How long until there is a token; zero when there is one.
    pub wait: Duration,
}

/// A bucket a name, in bounded memory.
///
/// A full bucket is not remembered. Names beyond the table's end share one bucket, so that inventing
/// names gains nothing.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    len_max: usize,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    /// When each bucket is full again.
    full_at: HashMap<K, OffsetDateTime>,
    others_full_at: OffsetDateTime,
    swept_at: OffsetDateTime,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Full buckets, of which at most `len_max` are told apart.
    #[must_use]
    pub fn new(rate: Rate, len_max: usize) -> Self {
        let start = OffsetDateTime::UNIX_EPOCH;
        let table = Table { full_at: HashMap::new(), others_full_at: start, swept_at: start };
        Self { rate, len_max, table: Mutex::new(table) }
    }

    /// Takes a token out of the bucket of `name`, if there is one.
    pub fn take(&self, name: &K, now: OffsetDateTime) -> Verdict {
        let mut table = self.table();
        let full_at = table.entry(name, now, self.len_max);
        let (verdict, after) = self.decide(*full_at, now);
        // Also where there was none: after the clock was set back, the bucket is empty and fills from now on.
        *full_at = after;
        verdict
    }

    /// What the bucket of `name` says, without taking anything.
    pub fn look(&self, name: &K, now: OffsetDateTime) -> Verdict {
        let mut table = self.table();
        let has_room = table.full_at.len() < self.len_max;
        // No bucket is emptier than empty: who only looks must see it fill after the clock was set back, too.
        let latest = now + Duration::nanoseconds_i128(self.rate.full_ns());
        table.others_full_at = table.others_full_at.min(latest);
        let unlisted = if has_room { now } else { table.others_full_at };
        let full_at = table.full_at.get_mut(name).map_or(unlisted, |full_at| {
            *full_at = (*full_at).min(latest);
            *full_at
        });
        drop(table);
        let (verdict, after) = self.decide(full_at, now);
        if verdict.admitted {
            Verdict { remaining: verdict.remaining + 1, full_at: full_at.max(now), ..verdict }
        } else {
            Verdict { full_at: after, ..verdict }
        }
    }

    /// Buckets that are remembered.
    pub fn len(&self) -> usize {
        self.table().full_at.len()
    }

    /// Whether every bucket is full.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The verdict, and when the bucket is full if it is taken.
    fn decide(&self, full_at: OffsetDateTime, now: OffsetDateTime) -> (Verdict, OffsetDateTime) {
        let (token, full) = (self.rate.token_ns(), self.rate.full_ns());
        // A clock that was set back makes no bucket emptier than empty.
        let missing = (full_at - now).whole_nanoseconds().clamp(0, full);
        let admitted = missing + token <= full;
        let missing_after = if admitted { missing + token } else { missing };
        let wait = (missing + token - full).max(0);
        let remaining = (full - missing_after) / token;
        let after = now + Duration::nanoseconds_i128(missing_after);
        let verdict = Verdict {
            admitted,
            limit: self.rate.per_minute.get(),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            full_at: after,
            wait: Duration::nanoseconds_i128(wait),
        };
        (verdict, after)
    }

    fn table(&self) -> MutexGuard<'_, Table<K>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn entry(&mut self, name: &K, now: OffsetDateTime, len_max: usize) -> &mut OffsetDateTime {
        if self.full_at.len() >= len_max && !self.full_at.contains_key(name) {
            if (now - self.swept_at).abs() >= SWEEP_PAUSE {
                self.swept_at = now;
                self.full_at.retain(|_, full_at| *full_at > now);
            }
            if self.full_at.len() >= len_max {
                return &mut self.others_full_at;
            }
        }
        self.full_at.entry(name.clone()).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-07-01 14:00 UTC);

    fn buckets(per_minute: u32, burst: u32, len_max: usize) -> Buckets<u32> {
        let rate = Rate { per_minute: NonZeroU32::new(per_minute).unwrap(), burst: NonZeroU32::new(burst).unwrap() };
        Buckets::new(rate, len_max)
    }

    #[test]
    fn a_clock_that_was_set_back_empties_a_bucket_and_does_not_keep_it_empty() {
        for is_looked_at in [false, true] {
            let buckets = buckets(60, 3, 10);
            let ahead = NOW + Duration::minutes(10);
            assert!(buckets.take(&1, ahead).admitted);
            if is_looked_at {
                assert!(!buckets.look(&1, NOW).admitted);
            } else {
                assert_eq!(buckets.take(&1, NOW).wait, Duration::SECOND);
            }
            assert!(buckets.take(&1, NOW + Duration::SECOND).admitted, "a token came since");
            assert!(buckets.look(&1, NOW + Duration::minutes(1)).remaining == 3);
        }
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_token_at_its_rate() {
        let buckets = buckets(60, 3, 10);
        let remaining: Vec<_> = (0..3).map(|_| buckets.take(&1, NOW).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = buckets.take(&1, NOW);
        assert_eq!((refused.admitted, refused.remaining, refused.wait), (false, 0, Duration::SECOND));
        assert_eq!(refused.full_at, NOW + Duration::seconds(3));
        assert!(!buckets.take(&1, NOW + Duration::milliseconds(999)).admitted);
        assert!(buckets.take(&1, NOW + Duration::SECOND).admitted);
        assert!(!buckets.take(&1, NOW + Duration::SECOND).admitted);
    }

    #[test]
    fn one_name_takes_nothing_from_another() {
        let buckets = buckets(1, 1, 10);
        assert!(buckets.take(&1, NOW).admitted && !buckets.take(&1, NOW).admitted);
        assert!(buckets.take(&2, NOW).admitted);
    }

    #[test]
    fn looking_takes_nothing() {
        let buckets = buckets(60, 2, 10);
        assert_eq!(buckets.look(&1, NOW).remaining, 2);
        let taken = buckets.take(&1, NOW);
        assert_eq!(buckets.look(&1, NOW).remaining, taken.remaining);
        buckets.take(&1, NOW);
        assert!(!buckets.look(&1, NOW).admitted);
        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn invented_names_share_one_bucket_and_take_no_memory() {
        let buckets = buckets(1, 1, 100);
        let admitted = (0..10_000).filter(|name| buckets.take(name, NOW).admitted).count();
        assert_eq!((admitted, buckets.len()), (101, 100));
        assert!(!buckets.look(&10_001, NOW).admitted);
        // Once the others are full again there is room for the next.
        assert!(buckets.take(&20_000, NOW + Duration::minutes(2)).admitted);
        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_longer_than_an_empty_bucket() {
        let buckets = buckets(60, 2, 10);
        buckets.take(&1, NOW + Duration::days(365));
        let refused = buckets.take(&1, NOW);
        assert!(refused.wait <= Duration::SECOND, "{refused:?}");
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_burst_and_rate_allow(
            per_minute in 1..10_000_u32, burst in 1..50_u32, gaps_ms in prop::collection::vec(0..500_i64, 1..200),
        ) {
            let buckets = buckets(per_minute, burst, 4);
            let (mut now, mut admitted) = (NOW, 0_i128);
            for gap in gaps_ms {
                now += Duration::milliseconds(gap);
                admitted += i128::from(buckets.take(&1, now).admitted);
                let came = (now - NOW).whole_nanoseconds() / (MINUTE_NS / i128::from(per_minute));
                prop_assert!(admitted <= i128::from(burst) + came);
            }
        }
    }
}
