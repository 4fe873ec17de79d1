//! Settings of the updates to clients.

use super::require;
use crate::adapters::http::stream::{FrameKind, StreamLimits};
use platform::config::ConfigError;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Connections of the database that streams leave to requests and feeds.
const CONNECTIONS_LEFT_MIN: u32 = 3;

/// Updates to clients.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct StreamSettings {
    pub connections_max: usize,
    pub connections_per_key_max: usize,
    pub strangers_max: usize,
    pub auth_deadline_ms: u64,
    pub message_len_max: usize,
    pub messages_per_second_max: u32,
    pub poll_interval_ms: u64,
    pub page_len_max: u16,
    pub readers_max: u16,
    pub heartbeat_ms: u64,
    pub ping_interval_ms: u64,
    pub silence_max_ms: u64,
    pub write_timeout_ms: u64,
    pub settle_ms: u64,
    pub frames: FrameKind,
}

impl StreamSettings {
    /// Checks the values against each other and against the pool they read from.
    pub(super) fn validate(&self, database_connections_max: u32) -> Result<(), ConfigError> {
        require(self.connections_max > 0, "stream.connections_max must be above zero")?;
        require(self.connections_per_key_max > 0, "stream.connections_per_key_max must be above zero")?;
        require(self.strangers_max > 0, "stream.strangers_max must be above zero")?;
        require(
            self.auth_deadline_ms > 0 && self.heartbeat_ms > 0 && self.write_timeout_ms > 0,
            "stream.auth_deadline_ms, heartbeat_ms and write_timeout_ms must be above zero",
        )?;
        require(self.message_len_max >= 1024, "stream.message_len_max must be at least 1024")?;
        require(self.messages_per_second_max > 0, "stream.messages_per_second_max must be above zero")?;
        require(
            (1..=1000).contains(&self.poll_interval_ms),
            "stream.poll_interval_ms must be from 1 to 1000: a revoked key must end its streams within a second",
        )?;
        require((1..=1000).contains(&self.page_len_max), "stream.page_len_max must be from 1 to 1000")?;
        require(
            self.readers_max > 0
                && u32::from(self.readers_max).saturating_add(CONNECTIONS_LEFT_MIN) <= database_connections_max,
            "stream.readers_max must be above zero and leave 3 of database.connections_max",
        )?;
        require(
            self.ping_interval_ms > 0 && self.silence_max_ms >= self.ping_interval_ms.saturating_mul(2),
            "stream.silence_max_ms must be at least twice stream.ping_interval_ms",
        )
    }

    /// How often the database is looked at.
    #[must_use]
    pub const fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval_ms)
    }

    /// Limits of one stream.
    #[must_use]
    pub const fn limits(&self) -> StreamLimits {
        StreamLimits {
            auth_deadline: Duration::from_millis(self.auth_deadline_ms),
            message_len_max: self.message_len_max,
            messages_per_second_max: self.messages_per_second_max,
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            ping_interval: Duration::from_millis(self.ping_interval_ms),
            silence_max: Duration::from_millis(self.silence_max_ms),
            write_timeout: Duration::from_millis(self.write_timeout_ms),
            settle: Duration::from_millis(self.settle_ms),
            frames: self.frames,
        }
    }
}
