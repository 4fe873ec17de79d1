//! Times of the leases.

use crate::config::ConfigError;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Times of the leases.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseConfig {
    /// How long a lease lasts when its holder dies; with `renewal_ms` the time until another copy
    /// takes over.
    pub duration_ms: u64,
    /// Time between two renewals, which also look for partitions without a holder.
    pub renewal_ms: u64,
    /// How long a copy may fail to read or to apply before it leaves its partitions to one that can.
    pub trouble_ms_max: u64,
    /// How long a copy that did so takes none back; one that still fails then leaves them again.
    pub rest_ms: u64,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { duration_ms: 1_000, renewal_ms: 250, trouble_ms_max: 3_000, rest_ms: 30_000 }
    }
}

impl LeaseConfig {
    /// Checks the values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.renewal_ms == 0 {
            return Err(ConfigError::Invalid("copies renewal_ms must be above zero".to_owned()));
        }
        // A lease that a late renewal loses moves partitions to and fro.
        if self.duration_ms < self.renewal_ms.saturating_mul(3) {
            return Err(ConfigError::Invalid("copies duration_ms must be at least three times renewal_ms".to_owned()));
        }
        if self.trouble_ms_max < self.duration_ms {
            return Err(ConfigError::Invalid("copies trouble_ms_max must be at least duration_ms".to_owned()));
        }
        // Else most of the time goes into taking what cannot be read, and giving it up.
        if self.rest_ms < self.trouble_ms_max.saturating_mul(2) {
            return Err(ConfigError::Invalid("copies rest_ms must be at least twice trouble_ms_max".to_owned()));
        }
        Ok(())
    }

    pub(super) const fn trouble_max(&self) -> Duration {
        Duration::from_millis(self.trouble_ms_max)
    }

    pub(super) const fn rest(&self) -> Duration {
        Duration::from_millis(self.rest_ms)
    }

    pub(super) const fn renewal(&self) -> Duration {
        Duration::from_millis(self.renewal_ms)
    }

    pub(super) const fn duration(&self) -> Duration {
        Duration::from_millis(self.duration_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_outlives_two_late_renewals() {
        assert!(LeaseConfig::default().validate().is_ok());
        let usual = LeaseConfig::default();
        assert!(LeaseConfig { duration_ms: 500, ..usual }.validate().is_err());
        assert!(LeaseConfig { renewal_ms: 0, ..usual }.validate().is_err());
    }

    #[test]
    fn a_copy_that_fails_has_time_to_recover_and_rests_for_longer() {
        let usual = LeaseConfig::default();
        assert!(LeaseConfig { trouble_ms_max: 999, ..usual }.validate().is_err());
        assert!(LeaseConfig { rest_ms: 5_999, ..usual }.validate().is_err());
    }
}
