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
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { duration_ms: 1_000, renewal_ms: 250 }
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
        Ok(())
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
        assert!(LeaseConfig { duration_ms: 500, renewal_ms: 250 }.validate().is_err());
        assert!(LeaseConfig { duration_ms: 500, renewal_ms: 0 }.validate().is_err());
    }
}
