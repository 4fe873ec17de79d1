//! Configuration of the fill receiver. Every field is explained in `config.default.toml`.

use crate::adapters::sse::SseConfig;
use crate::application::audit::AuditConfig;
use crate::application::receiver::RoundConfig;
use crate::application::session::SessionLimits;
use crate::domain::cursor::Cursor;
use crate::domain::identity::ExecutionScope;
use crate::domain::intake::BatchLimits;
use crate::domain::reading::BrokerProfile;
use contracts::BrokerId;
use platform::bus::BusConfig;
use platform::config::{ConfigError, DatabaseConfig, RedisConfig, Secret};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const DEFAULT: &str = include_str!("../config.default.toml");
const PREFIX: &str = "FILL_RECEIVER__";

/// Names that other processes share, and texts that must stay texts even if they look like numbers.
const ALIASES: &[(&str, &str)] = &[
    ("FILL_RECEIVER_DATABASE_URL", "database.url"),
    ("REDIS_URL", "redis.url"),
    ("OPS_TOKEN", "tokens.ops"),
    ("PEER_TOKEN", "tokens.peer"),
    ("FILL_RECEIVER__BROKER__KEY_ID", "broker.key_id"),
    ("FILL_RECEIVER__BROKER__SECRET_KEY", "broker.secret_key"),
];

/// Everything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Listener.
    pub http: HttpSettings,
    /// Credentials of callers.
    pub tokens: TokenSettings,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// Publishing.
    pub bus: BusConfig,
    /// The broker.
    pub broker: BrokerSettings,
    /// Its stream.
    pub stream: StreamSettings,
    /// Reading the stream a second time.
    pub audit: AuditConfig,
    /// Which copy reads.
    pub lease: LeaseSettings,
    /// Counting.
    pub watch: WatchSettings,
    /// The end.
    pub shutdown: ShutdownSettings,
}

/// Listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Operator's port.
    pub ops_addr: SocketAddr,
}

/// Credentials of callers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Operators.
    pub ops: Secret,
    /// Other processes.
    pub peer: Secret,
}

/// The broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// Its name.
    pub id: String,
    /// Base URL.
    pub base_url: String,
    /// Key of basic authentication.
    pub key_id: String,
    /// Secret of basic authentication.
    pub secret_key: Secret,
    /// Within what its execution ids are unique.
    pub execution_scope: ExecutionScope,
    /// How far back it replays; 0 where it does not say.
    pub replay_window_ms: u64,
}

/// The stream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml and at the structures they become")]
pub struct StreamSettings {
    pub name: String,
    pub path: String,
    pub first_since: String,
    pub connect_timeout_ms: u64,
    pub answer_timeout_ms: u64,
    pub silence_deadline_ms: u64,
    pub overlap_ms: u64,
    pub cursor_lead_max_ms: u64,
    pub alive_interval_ms: u64,
    pub reconnect_delay_initial_ms: u64,
    pub reconnect_delay_max_ms: u64,
    pub frame_bytes_max: usize,
    pub seen_events_max: usize,
    pub queue_events_max: usize,
    pub queue_bytes_max: usize,
    pub batch_events_max: usize,
    pub batch_bytes_max: usize,
    pub store_retries_max: u32,
    pub store_retry_delay_ms: u64,
}

/// Which copy reads.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseSettings {
    /// How long a lease lasts.
    pub duration_ms: u64,
    /// Time between two renewals.
    pub renewal_ms: u64,
}

/// Counting.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSettings {
    /// Time between two counts.
    pub count_interval_ms: u64,
}

/// The end.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownSettings {
    /// Longest wait.
    pub deadline_ms: u64,
}

impl Settings {
    /// Reads defaults, file and environment, and checks them.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let settings: Self = platform::config::load(DEFAULT, file, PREFIX, ALIASES)?;
        settings.validate()?;
        Ok(settings)
    }

    /// The compiled-in defaults alone.
    ///
    /// # Errors
    /// [`ConfigError`] when they do not fit this program.
    pub fn defaults() -> Result<Self, ConfigError> {
        // No variable has this prefix.
        platform::config::load(DEFAULT, None, "FILL_RECEIVER_DEFAULTS_ONLY__", &[])
    }

    /// Checks values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.database.validate()?;
        self.bus.validate()?;
        self.profile()?;
        self.first_cursor(OffsetDateTime::UNIX_EPOCH)?;
        for (name, value) in self.positive_fields() {
            if value == 0 {
                return Err(ConfigError::Invalid(format!("{name} must be above zero")));
            }
        }
        let stream = &self.stream;
        let rules = [
            (self.broker.base_url.starts_with("http"), "broker.base_url must be an http or https URL"),
            (stream.path.starts_with('/'), "stream.path must start with a slash"),
            (!stream.name.is_empty() && stream.name.len() <= 64, "stream.name must have 1 to 64 characters"),
            (
                stream.cursor_lead_max_ms < stream.overlap_ms,
                "stream.cursor_lead_max_ms must be less than stream.overlap_ms: the overlap is what covers a clock that runs ahead",
            ),
            (
                stream.queue_bytes_max >= stream.frame_bytes_max,
                "stream.queue_bytes_max must be at least stream.frame_bytes_max",
            ),
            (stream.queue_bytes_max <= 1 << 30, "stream.queue_bytes_max must be at most 1 GiB"),
            (stream.frame_bytes_max <= 16 << 20, "stream.frame_bytes_max must be at most 16 MiB"),
            (stream.batch_events_max <= 4096, "stream.batch_events_max must be at most 4096"),
            (
                stream.reconnect_delay_initial_ms <= stream.reconnect_delay_max_ms,
                "stream.reconnect_delay_initial_ms must not exceed stream.reconnect_delay_max_ms",
            ),
            (
                self.lease.renewal_ms * 2 <= self.lease.duration_ms,
                "lease.duration_ms must be at least twice lease.renewal_ms",
            ),
            (self.lease.duration_ms <= 600_000, "lease.duration_ms must be at most ten minutes"),
            (
                self.broker.replay_window_ms == 0 || self.broker.replay_window_ms > stream.overlap_ms,
                "broker.replay_window_ms must exceed stream.overlap_ms",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, text)) => Err(ConfigError::Invalid(text.to_owned())),
            None => Ok(()),
        }
    }

    fn positive_fields(&self) -> Vec<(&'static str, u64)> {
        let stream = &self.stream;
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        vec![
            ("redis.response_timeout_ms", self.redis.response_timeout_ms),
            ("redis.connect_timeout_ms", self.redis.connect_timeout_ms),
            ("stream.connect_timeout_ms", stream.connect_timeout_ms),
            ("stream.answer_timeout_ms", stream.answer_timeout_ms),
            ("stream.silence_deadline_ms", stream.silence_deadline_ms),
            ("stream.overlap_ms", stream.overlap_ms),
            ("stream.alive_interval_ms", stream.alive_interval_ms),
            ("stream.reconnect_delay_initial_ms", stream.reconnect_delay_initial_ms),
            ("stream.frame_bytes_max", size(stream.frame_bytes_max)),
            ("stream.queue_events_max", size(stream.queue_events_max)),
            ("stream.batch_events_max", size(stream.batch_events_max)),
            ("stream.batch_bytes_max", size(stream.batch_bytes_max)),
            ("stream.store_retry_delay_ms", stream.store_retry_delay_ms),
            ("audit.stretch_max_ms", self.audit.stretch_max_ms),
            ("audit.deadline_ms", self.audit.deadline_ms),
            ("lease.renewal_ms", self.lease.renewal_ms),
            ("watch.count_interval_ms", self.watch.count_interval_ms),
            ("shutdown.deadline_ms", self.shutdown.deadline_ms),
        ]
    }

    /// What the broker promises.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when its name is no name.
    pub fn profile(&self) -> Result<BrokerProfile, ConfigError> {
        let broker = BrokerId::new(self.broker.id.as_str())
            .map_err(|error| ConfigError::Invalid(format!("broker.id: {error}")))?;
        Ok(BrokerProfile { broker, execution_scope: self.broker.execution_scope })
    }

    /// Where a stream begins that was never read.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when the configured moment is none.
    pub fn first_cursor(&self, now: OffsetDateTime) -> Result<Cursor, ConfigError> {
        if self.stream.first_since.is_empty() {
            return Ok(Cursor::at(now));
        }
        OffsetDateTime::parse(&self.stream.first_since, &Rfc3339)
            .map(Cursor::at)
            .map_err(|error| ConfigError::Invalid(format!("stream.first_since: {error}")))
    }

    /// Where the stream is.
    #[must_use]
    pub fn sse(&self) -> SseConfig {
        SseConfig {
            base_url: self.broker.base_url.clone(),
            path: self.stream.path.clone(),
            key_id: self.broker.key_id.clone(),
            secret_key: self.broker.secret_key.clone(),
            connect_timeout_ms: self.stream.connect_timeout_ms,
            answer_timeout_ms: self.stream.answer_timeout_ms,
        }
    }

    /// Limits of one connection.
    #[must_use]
    pub const fn session_limits(&self) -> SessionLimits {
        let stream = &self.stream;
        SessionLimits {
            silence_deadline_ms: stream.silence_deadline_ms,
            frame_bytes_max: stream.frame_bytes_max,
            queue_events_max: stream.queue_events_max,
            queue_bytes_max: stream.queue_bytes_max,
            batch: BatchLimits { events_max: stream.batch_events_max, bytes_max: stream.batch_bytes_max },
            cursor_lead_max_ms: stream.cursor_lead_max_ms,
            alive_interval_ms: stream.alive_interval_ms,
            store_retries_max: stream.store_retries_max,
            store_retry_delay_ms: stream.store_retry_delay_ms,
        }
    }

    /// Times of the round.
    #[must_use]
    pub const fn round(&self) -> RoundConfig {
        RoundConfig {
            overlap_ms: self.stream.overlap_ms,
            replay_window_ms: self.broker.replay_window_ms,
            reconnect_delay_initial_ms: self.stream.reconnect_delay_initial_ms,
            reconnect_delay_max_ms: self.stream.reconnect_delay_max_ms,
            lease_renewal_ms: self.lease.renewal_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Settings {
        Settings::defaults().unwrap()
    }

    #[test]
    fn the_compiled_in_defaults_are_valid() {
        defaults().validate().unwrap();
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let refused = |change: fn(&mut Settings), field: &str| {
            let mut settings = defaults();
            change(&mut settings);
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        };
        refused(|s| s.stream.cursor_lead_max_ms = s.stream.overlap_ms, "cursor_lead_max_ms");
        refused(|s| s.stream.queue_bytes_max = 1, "queue_bytes_max");
        refused(|s| s.stream.silence_deadline_ms = 0, "silence_deadline_ms");
        refused(|s| s.lease.renewal_ms = s.lease.duration_ms, "lease.duration_ms");
        refused(|s| s.broker.id = String::new(), "broker.id");
        refused(|s| s.stream.first_since = "yesterday".to_owned(), "first_since");
        refused(|s| s.broker.replay_window_ms = 1, "replay_window_ms");
    }
}
