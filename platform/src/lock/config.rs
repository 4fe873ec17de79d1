//! Limits of the account lock.

use crate::breaker::BreakerConfig;
use crate::config::{ConfigError, RedisConfig};
use serde::{Deserialize, Serialize};

/// Limits of the account lock.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LockConfig {
    /// How long a lock lasts when its holder never gives it back. Longer than any transaction, and
    /// short enough to wait out after a crash.
    pub lease_ms: u64,
    /// Most locks that wait for the background release; beyond it they are left to their lease.
    pub leftover_queue_len_max: usize,
    /// How long the background release is tried.
    pub leftover_give_up_ms: u64,
    /// When Redis is left alone.
    pub breaker: BreakerConfig,
}

impl Default for LockConfig {
    fn default() -> Self {
        Self {
            lease_ms: 5_000,
            leftover_queue_len_max: 10_000,
            leftover_give_up_ms: 60_000,
            breaker: BreakerConfig::default(),
        }
    }
}

impl LockConfig {
    /// Checks the values against each other and against Redis's time limits.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self, redis: &RedisConfig) -> Result<(), ConfigError> {
        let invalid = |text: &str| Err(ConfigError::Invalid(text.to_owned()));
        if redis.response_timeout_ms == 0 || redis.connect_timeout_ms == 0 {
            return invalid("redis.response_timeout_ms and redis.connect_timeout_ms must be above zero");
        }
        if self.lease_ms < redis.response_timeout_ms.saturating_mul(2) {
            return invalid("lock.lease_ms must be at least twice redis.response_timeout_ms");
        }
        if self.leftover_queue_len_max == 0 || self.breaker.open_ms == 0 {
            return invalid("lock.leftover_queue_len_max and lock.breaker.open_ms must be above zero");
        }
        if self.breaker.failures_to_open == 0 || self.breaker.timeouts_to_open == 0 {
            return invalid("lock.breaker.failures_to_open and timeouts_to_open must be above zero");
        }
        Ok(())
    }
}
