//! What a broker promises, as far as the retry protocol depends on it.

use contracts::BrokerId;
use thiserror::Error;
use time::{Duration, OffsetDateTime};

/// Whether the broker refuses a second order under a key that it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEnforcement {
    /// It makes a second order. At most one attempt may ever reach it.
    Never,
    /// For this long after it first saw the key; then the same key is a new order.
    Window(Duration),
    /// For ever.
    Always,
}

/// Whether the broker refuses a request that it processes after the time in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidUntil {
    /// It does not look at it.
    Ignored,
    /// It does; an order that it took shows in lookups at the latest this long after. Without a
    /// declared lag a lookup's "none" is never final.
    Honoured {
        /// Longest time between taking an order and showing it, where the broker states one.
        record_lag_max: Option<Duration>,
    },
}

/// One broker's promises. A wrong profile breaks the guarantees, so nothing in it is guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Which broker.
    pub broker: BrokerId,
    /// Whether it stores the key that we send.
    pub key_accepted: bool,
    /// Whether an order can be asked for by that key.
    pub key_looked_up: bool,
    /// Whether it makes a second order under a used key.
    pub key_enforcement: KeyEnforcement,
    /// Whether it refuses late requests.
    pub valid_until: ValidUntil,
    /// Longest time from writing a request to the broker's processing it: our call timeout and the
    /// worst lateness on the way. None where nobody can say.
    pub longest_flight: Option<Duration>,
    /// How far two clocks (ours, the database's, the broker's) may differ.
    pub clock_skew_max: Duration,
    /// Whether the broker documents that a 429 was not processed. Otherwise it is unknown.
    pub rate_limited_is_unprocessed: bool,
}

/// A profile that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProfileError {
    /// A key that is not accepted cannot be asked for.
    #[error("key_looked_up needs key_accepted")]
    LookupWithoutKey,
    /// A key that is not accepted cannot be enforced.
    #[error("key_enforcement needs key_accepted")]
    EnforcementWithoutKey,
    /// A duration below zero.
    #[error("{name} must not be negative")]
    Negative {
        /// Which one.
        name: &'static str,
    },
    /// The stated flight is shorter than our own patience.
    #[error("longest_flight is shorter than the call timeout")]
    FlightBelowCallTimeout,
}

impl Profile {
    /// Checks that the promises fit together, and fit the timeout of our own calls.
    ///
    /// # Errors
    /// [`ProfileError`] names the first contradiction.
    pub fn check(&self, call_timeout: Duration) -> Result<(), ProfileError> {
        if self.key_looked_up && !self.key_accepted {
            return Err(ProfileError::LookupWithoutKey);
        }
        if self.key_enforcement != KeyEnforcement::Never && !self.key_accepted {
            return Err(ProfileError::EnforcementWithoutKey);
        }
        let lag = match self.valid_until {
            ValidUntil::Honoured { record_lag_max } => record_lag_max,
            ValidUntil::Ignored => None,
        };
        let window = match self.key_enforcement {
            KeyEnforcement::Window(window) => Some(window),
            KeyEnforcement::Never | KeyEnforcement::Always => None,
        };
        for (name, value) in [
            ("record_lag_max", lag),
            ("key window", window),
            ("longest_flight", self.longest_flight),
            ("clock_skew_max", Some(self.clock_skew_max)),
        ] {
            if value.is_some_and(Duration::is_negative) {
                return Err(ProfileError::Negative { name });
            }
        }
        if self.longest_flight.is_some_and(|flight| flight < call_timeout) {
            return Err(ProfileError::FlightBelowCallTimeout);
        }
        Ok(())
    }

    /// Whether requests carry a time after which the broker must refuse them.
    #[must_use]
    pub const fn honours_valid_until(&self) -> bool {
        matches!(self.valid_until, ValidUntil::Honoured { .. })
    }

    /// From when on a lookup's "none" is final: later than any attempt can still be taken and
    /// recorded. None where the broker does not make it provable.
    #[must_use]
    pub fn none_is_final_after(&self, valid_until: Option<OffsetDateTime>) -> Option<OffsetDateTime> {
        if !self.key_looked_up {
            return None;
        }
        let ValidUntil::Honoured { record_lag_max: Some(lag) } = self.valid_until else { return None };
        Some(valid_until?.saturating_add(self.clock_skew_max).saturating_add(lag))
    }

    /// Whether bytes that leave at `at` under a key first used at `first` still meet an enforced
    /// key when they arrive.
    #[must_use]
    pub fn key_still_enforced(&self, first: OffsetDateTime, at: OffsetDateTime) -> bool {
        match (self.key_enforcement, self.longest_flight) {
            (KeyEnforcement::Always, _) => true,
            (KeyEnforcement::Never, _) | (KeyEnforcement::Window(_), None) => false,
            (KeyEnforcement::Window(window), Some(flight)) => {
                at.saturating_add(flight).saturating_add(self.clock_skew_max) < first.saturating_add(window)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            broker: BrokerId::new("sim").unwrap(),
            key_accepted: true,
            key_looked_up: true,
            key_enforcement: KeyEnforcement::Always,
            valid_until: ValidUntil::Honoured { record_lag_max: Some(Duration::SECOND) },
            longest_flight: Some(Duration::seconds(10)),
            clock_skew_max: Duration::SECOND,
            rate_limited_is_unprocessed: true,
        }
    }

    #[test]
    fn a_profile_that_contradicts_itself_is_refused() {
        let timeout = Duration::seconds(5);
        assert_eq!(profile().check(timeout), Ok(()));
        let blind = Profile { key_accepted: false, ..profile() };
        assert_eq!(blind.check(timeout), Err(ProfileError::LookupWithoutKey));
        let enforced = Profile { key_accepted: false, key_looked_up: false, ..profile() };
        assert_eq!(enforced.check(timeout), Err(ProfileError::EnforcementWithoutKey));
        let short = Profile { longest_flight: Some(Duration::SECOND), ..profile() };
        assert_eq!(short.check(timeout), Err(ProfileError::FlightBelowCallTimeout));
        let skew = Profile { clock_skew_max: -Duration::SECOND, ..profile() };
        assert_eq!(skew.check(timeout), Err(ProfileError::Negative { name: "clock_skew_max" }));
    }

    #[test]
    fn the_key_window_counts_the_longest_flight_and_the_skew() {
        let first = OffsetDateTime::UNIX_EPOCH;
        let windowed = Profile { key_enforcement: KeyEnforcement::Window(Duration::seconds(60)), ..profile() };
        assert!(windowed.key_still_enforced(first, first + Duration::seconds(48)));
        assert!(!windowed.key_still_enforced(first, first + Duration::seconds(49)), "49 + 10 + 1 is not before 60");
        let unstated = Profile { longest_flight: None, ..windowed };
        assert!(!unstated.key_still_enforced(first, first));
    }

    #[test]
    fn none_is_never_final_without_a_declared_lag_or_an_honoured_time() {
        let until = Some(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(profile().none_is_final_after(until), Some(OffsetDateTime::UNIX_EPOCH + Duration::seconds(2)));
        let undeclared = Profile { valid_until: ValidUntil::Honoured { record_lag_max: None }, ..profile() };
        assert_eq!(undeclared.none_is_final_after(until), None);
        let ignored = Profile { valid_until: ValidUntil::Ignored, ..profile() };
        assert_eq!(ignored.none_is_final_after(until), None);
        assert_eq!(profile().none_is_final_after(None), None);
    }
}
