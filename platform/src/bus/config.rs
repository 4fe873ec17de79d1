//! Limits of the bus.

use crate::config::ConfigError;
use serde::{Deserialize, Serialize};

/// Limits of the publishing side of the bus.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// Most committed batches that wait for publishing; beyond it their copies are dropped.
    pub queue_len_max: usize,
    /// Most events that are written in one round trip.
    pub batch_len_max: usize,
    /// Most entries of one stream, whatever consumers have applied. Memory that grows without end
    /// is worse than a longer read of the feed.
    pub stream_len_max: usize,
    /// Time between two announcements of the heads.
    pub heads_interval_ms: u64,
    /// How long announced heads stay after the last announcement.
    pub heads_ttl_ms: u64,
    /// Time between two trims of the streams.
    pub trim_interval_ms: u64,
    /// How long what is queued at shutdown is still published.
    pub drain_ms: u64,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            queue_len_max: 4_096,
            batch_len_max: 256,
            stream_len_max: 100_000,
            heads_interval_ms: 250,
            heads_ttl_ms: 1_500,
            trim_interval_ms: 10_000,
            drain_ms: 1_000,
        }
    }
}

impl BusConfig {
    /// Checks the values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("queue_len_max", self.queue_len_max as u64),
            ("batch_len_max", self.batch_len_max as u64),
            ("stream_len_max", self.stream_len_max as u64),
            ("heads_interval_ms", self.heads_interval_ms),
            ("trim_interval_ms", self.trim_interval_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Invalid(format!("bus.{name} must be above zero")));
        }
        if self.heads_ttl_ms < self.heads_interval_ms.saturating_mul(2) {
            return Err(ConfigError::Invalid(
                "bus.heads_ttl_ms must be at least twice bus.heads_interval_ms".to_owned(),
            ));
        }
        Ok(())
    }
}
