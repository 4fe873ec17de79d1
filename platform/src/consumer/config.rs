//! Limits and delays of a consumer.

use crate::bus::BusConfig;
use crate::config::{Checks, ConfigError};
use crate::lease::LeaseConfig;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Limits and delays of a consumer.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsumerConfig {
    /// Most events that are read from one stream of the bus at once.
    pub bus_batch_len_max: usize,
    /// Longest wait of a read on the bus for something new.
    pub bus_block_ms: u64,
    /// Time between two looks at the announced heads.
    pub heads_interval_ms: u64,
    /// How long an announced head may be ahead without anything coming, before the feed is read;
    /// also how long heads may be missing before the bus counts as dead. Longer than the producer's
    /// announcement interval.
    pub silence_ms: u64,
    /// Shortest time between two attempts to use a dead bus again.
    pub bus_retry_ms_min: u64,
    /// Longest time between two attempts to use a dead bus again.
    pub bus_retry_ms_max: u64,
    /// Most events that are asked of the feed at once, at most 1000.
    pub feed_batch_len_max: u32,
    /// Time between two reads of the feed's heads while the bus is dead.
    pub poll_interval_ms: u64,
    /// Time between two comparisons of our history with the feed's heads while the bus works.
    pub history_check_interval_ms: u64,
    /// First delay after an infrastructure error, a feed that does not answer, or a position that
    /// another copy holds.
    pub retry_ms_min: u64,
    /// Longest such delay.
    pub retry_ms_max: u64,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            bus_batch_len_max: 256,
            bus_block_ms: 250,
            heads_interval_ms: 250,
            silence_ms: 500,
            bus_retry_ms_min: 200,
            bus_retry_ms_max: 2_000,
            feed_batch_len_max: 500,
            poll_interval_ms: 200,
            history_check_interval_ms: 5_000,
            retry_ms_min: 20,
            retry_ms_max: 2_000,
        }
    }
}

impl ConsumerConfig {
    /// Checks the values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("bus_batch_len_max", self.bus_batch_len_max as u64),
            ("bus_block_ms", self.bus_block_ms),
            ("heads_interval_ms", self.heads_interval_ms),
            ("silence_ms", self.silence_ms),
            ("bus_retry_ms_min", self.bus_retry_ms_min),
            ("feed_batch_len_max", u64::from(self.feed_batch_len_max)),
            ("poll_interval_ms", self.poll_interval_ms),
            ("history_check_interval_ms", self.history_check_interval_ms),
            ("retry_ms_min", self.retry_ms_min),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Invalid(format!("consumer.{name} must be above zero")));
        }
        if self.feed_batch_len_max > crate::feed::READ_LIMIT_MAX {
            return Err(ConfigError::Invalid("consumer.feed_batch_len_max must be at most 1000".to_owned()));
        }
        if self.bus_retry_ms_max < self.bus_retry_ms_min || self.retry_ms_max < self.retry_ms_min {
            return Err(ConfigError::Invalid("consumer.bus_retry_ms_min and consumer.retry_ms_min must not exceed consumer.bus_retry_ms_max and consumer.retry_ms_max".to_owned()));
        }
        Ok(())
    }

    /// Checks the values against the rhythm of the producers, which is taken to be our own.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming both fields.
    pub fn validate_against(&self, bus: &BusConfig) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.require(
            self.silence_ms > bus.heads_interval_ms,
            "consumer.silence_ms must exceed bus.heads_interval_ms: else every pause looks like a dead bus",
        );
        checks.require(
            self.silence_ms > self.heads_interval_ms,
            "consumer.silence_ms must exceed consumer.heads_interval_ms",
        );
        checks.require(
            self.bus_block_ms <= self.silence_ms,
            "consumer.bus_block_ms must not exceed consumer.silence_ms: silence is noticed between two reads",
        );
        checks.finish()
    }

    /// Checks the values against the times of the leases.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming both fields.
    pub fn validate_against_leases(&self, leases: &LeaseConfig) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.require(
            leases.trouble_ms_max > self.retry_ms_max,
            "copies.trouble_ms_max must exceed consumer.retry_ms_max: else one failure looks like an inability",
        );
        checks.finish()
    }

    pub(crate) const fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    pub(crate) const fn bus_block(&self) -> Duration {
        Duration::from_millis(self.bus_block_ms)
    }

    pub(crate) const fn heads_interval(&self) -> Duration {
        Duration::from_millis(self.heads_interval_ms)
    }

    pub(crate) const fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval_ms)
    }

    pub(crate) const fn history_check_interval(&self) -> Duration {
        Duration::from_millis(self.history_check_interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_would_leave_its_partitions_before_it_tried_again_is_refused() {
        let leases = LeaseConfig::default();
        ConsumerConfig::default().validate_against_leases(&leases).unwrap();
        let patient = ConsumerConfig { retry_ms_max: 3_000, ..ConsumerConfig::default() };
        let error = patient.validate_against_leases(&leases).unwrap_err().to_string();
        assert!(error.contains("copies.trouble_ms_max") && error.contains("consumer.retry_ms_max"), "{error}");
    }

    #[test]
    fn a_consumer_that_would_take_every_pause_for_a_dead_bus_is_refused() {
        ConsumerConfig::default().validate_against(&BusConfig::default()).unwrap();
        let refused = |consumer: ConsumerConfig, bus: &BusConfig, names: [&str; 2]| {
            let error = consumer.validate_against(bus).unwrap_err().to_string();
            assert!(names.iter().all(|name| error.contains(name)), "{error}");
        };
        let slow = BusConfig { heads_interval_ms: 2_000, ..BusConfig::default() };
        refused(ConsumerConfig::default(), &slow, ["consumer.silence_ms", "bus.heads_interval_ms"]);
        let looks = ConsumerConfig { heads_interval_ms: 2_000, ..ConsumerConfig::default() };
        refused(looks, &BusConfig::default(), ["consumer.silence_ms", "consumer.heads_interval_ms"]);
        let blocks = ConsumerConfig { bus_block_ms: 2_001, ..ConsumerConfig::default() };
        refused(blocks, &BusConfig::default(), ["consumer.bus_block_ms", "consumer.silence_ms"]);
    }
}
