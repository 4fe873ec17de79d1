//! Configuration of the fill receiver. Every field is explained in `config.default.toml`.

mod rules;
mod sections;

pub use sections::*;

use crate::adapters::orders::OrdersConfig;
use crate::adapters::push::PushHttpLimits;
use crate::adapters::sse::SseConfig;
use crate::application::audit::AuditConfig;
use crate::application::poll::PollConfig;
use crate::application::push::PushLimits;
use crate::application::receiver::RoundConfig;
use crate::application::session::SessionLimits;
use crate::domain::cumulative::{ExecutionsShown, Resolution};
use crate::domain::cursor::Cursor;
use crate::domain::intake::BatchLimits;
use crate::domain::reading::BrokerProfile;
use crate::domain::signature::{KeyRing, SigningKey, is_key_id};
use contracts::BrokerId;
use platform::bus::BusConfig;
use platform::config::{ConfigError, Configuration, DatabaseConfig, RedisConfig};
use platform::http::ServerLimits;
use platform::operators::TokenSettings;
use platform::trace::TelemetryConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Shortest secret of a push key, in bytes.
const SECRET_LEN_MIN: usize = 16;

/// Everything.
#[derive(Debug, Clone, Deserialize, Serialize)]
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
    /// The broker's pushes.
    pub push: PushSettings,
    /// Calls of the database.
    pub store: StoreSettings,
    /// Reading the stream a second time.
    pub audit: AuditConfig,
    /// Asking for orders.
    pub poll: PollSettings,
    /// Which copy reads.
    pub lease: LeaseSettings,
    /// Counting.
    pub watch: WatchSettings,
    /// Traces.
    pub telemetry: TelemetryConfig,
    /// The end.
    pub shutdown: ShutdownSettings,
}

impl Configuration for Settings {
    const DEFAULTS: &'static str = include_str!("../config.default.toml");
    const PREFIX: &'static str = "FILL_RECEIVER__";
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("FILL_RECEIVER_DATABASE_URL", "database.url"),
        ("REDIS_URL", "redis.url"),
        ("OPS_TOKEN", "tokens.ops"),
        ("PEER_TOKEN", "tokens.peer"),
    ];

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}

impl Settings {
    /// What the broker promises.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when its name is no name.
    pub fn profile(&self) -> Result<BrokerProfile, ConfigError> {
        let broker = BrokerId::new(self.broker.id.as_str())
            .map_err(|error| ConfigError::Invalid(format!("broker.id: {error}")))?;
        let executions = match self.broker.executions {
            ExecutionsWord::Single => ExecutionsShown::Single,
            ExecutionsWord::Cumulative => ExecutionsShown::Cumulative(Resolution {
                average_decimals: self.broker.average_decimals,
                quantity_decimals: self.broker.quantity_decimals,
            }),
        };
        Ok(BrokerProfile { broker, execution_scope: self.broker.execution_scope, executions })
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

    /// Where pushes are taken; none where they are not.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when the address is none.
    pub fn push_addr(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.push.addr.is_empty() {
            return Ok(None);
        }
        self.push.addr.parse().map(Some).map_err(|error| ConfigError::Invalid(format!("push.addr: {error}")))
    }

    /// The broker's keys.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming what is wrong with a key, and never its secret.
    pub fn push_keys(&self) -> Result<Vec<SigningKey>, ConfigError> {
        let mut ids = BTreeSet::new();
        let mut keys = Vec::new();
        for key in &self.push.keys {
            let wrong = |text: &str| ConfigError::Invalid(format!("push.keys: {text} (key {:?})", key.id));
            if !is_key_id(&key.id) {
                return Err(wrong("an id has letters, digits and -_.~ only"));
            }
            if !ids.insert(key.id.as_str()) {
                return Err(wrong("two keys have one id"));
            }
            if key.secret.expose().len() < SECRET_LEN_MIN {
                return Err(wrong("a secret has at least 16 bytes"));
            }
            let moment = |text: &str| {
                let parse = || OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong("a moment is not RFC 3339"));
                if text.is_empty() { Ok(None) } else { parse().map(Some) }
            };
            let (not_before, not_after) = (moment(&key.not_before)?, moment(&key.not_after)?);
            if not_before.zip(not_after).is_some_and(|(from, until)| from >= until) {
                return Err(wrong("not_before must come before not_after"));
            }
            let secret = key.secret.expose().as_bytes().to_vec();
            keys.push(SigningKey { id: key.id.clone(), secret, not_before, not_after });
        }
        Ok(keys)
    }

    /// The keys and the clock's window.
    ///
    /// # Errors
    /// As [`Self::push_keys`].
    pub fn key_ring(&self) -> Result<KeyRing, ConfigError> {
        Ok(KeyRing::new(self.push_keys()?, self.push.window_ms))
    }

    /// Limits of pushes.
    #[must_use]
    pub const fn push_limits(&self) -> PushLimits {
        PushLimits {
            events_max: self.push.events_max,
            in_flight_max: self.push.in_flight_max,
            deadline_ms: self.push.deadline_ms,
            nonce_retention_ms: self.push.nonce_retention_ms,
            prune_interval_ms: self.push.prune_interval_ms,
        }
    }

    /// Limits of one push's request.
    #[must_use]
    pub const fn push_http_limits(&self) -> PushHttpLimits {
        PushHttpLimits {
            body_bytes_max: self.push.body_bytes_max,
            body_timeout_ms: self.push.body_timeout_ms,
            retry_after_s: self.push.retry_after_s,
        }
    }

    /// Limits of the port that takes pushes.
    #[must_use]
    pub fn push_server_limits(&self) -> ServerLimits {
        let connections_max = self.push.connections_max;
        let connections_per_address_max = connections_max.div_ceil(2);
        ServerLimits { connections_max, connections_per_address_max, ..ServerLimits::default() }
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

    /// Where orders are asked for; none where they are not.
    #[must_use]
    pub fn orders(&self) -> Option<OrdersConfig> {
        (self.poll.interval_ms > 0).then(|| OrdersConfig {
            base_url: self.broker.base_url.clone(),
            path: self.poll.path.replace("{account_id}", &self.broker.account_id),
            account_id: self.broker.account_id.clone(),
            key_id: self.broker.key_id.clone(),
            secret_key: self.broker.secret_key.clone(),
            connect_timeout_ms: self.stream.connect_timeout_ms,
            answer_timeout_ms: self.stream.answer_timeout_ms,
            page_len: self.poll.page_len,
        })
    }

    /// When orders are asked for, and how many.
    #[must_use]
    pub const fn polls(&self) -> PollConfig {
        PollConfig {
            interval_ms: self.poll.interval_ms,
            overlap_ms: self.stream.overlap_ms,
            page_len: self.poll.page_len,
            pages_max: self.poll.pages_max,
            singles_max: self.poll.singles_max,
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
            batch_interval_ms: stream.batch_interval_ms,
            batch: BatchLimits { events_max: stream.batch_events_max, bytes_max: stream.batch_bytes_max },
            cursor_lead_max_ms: stream.cursor_lead_max_ms,
            alive_interval_ms: stream.alive_interval_ms,
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
    use platform::config::Secret;

    /// The defaults with what only an operator knows.
    fn usable() -> Settings {
        let mut settings = Settings::defaults().unwrap();
        settings.database.url = Secret::new("postgres://h/d");
        settings.redis.url = Secret::new("redis://h");
        settings.broker.key_id = "key".to_owned();
        settings.broker.secret_key = Secret::new("secret");
        settings
    }

    #[test]
    fn the_defaults_are_valid_once_an_operator_named_servers_and_credentials() {
        usable().validate().unwrap();
        let error = Settings::defaults().unwrap().validate().unwrap_err().to_string();
        for name in ["database.url", "redis.url", "broker.key_id", "broker.secret_key"] {
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let refused = |change: fn(&mut Settings), field: &str| {
            let mut settings = usable();
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
        refused(|s| s.lease.renewal_ms = u64::MAX, "lease.renewal_ms");
        refused(
            |s| s.audit.stretch_max_ms = s.audit.interval_ms - 1,
            "audit.stretch_max_ms must not be below audit.interval_ms",
        );
        refused(|s| s.stream.batch_bytes_max = 1, "stream.batch_bytes_max must be at least stream.frame_bytes_max");
        refused(|s| s.stream.queue_events_max = 1, "stream.queue_events_max must be at least stream.batch_events_max");
        refused(|s| s.shutdown.deadline_ms = 11_000, "shutdown.deadline_ms must exceed database.statement_timeout_ms");
        refused(|s| s.database.connections_max = 3, "database.connections_max");
        refused(|s| s.broker.base_url = "h".to_owned(), "broker.base_url");
        refused(|s| s.redis.response_timeout_ms = 0, "redis.response_timeout_ms");
        refused(|s| s.tokens.ops = Secret::new(" "), "tokens.ops");
        refused(|s| (s.tokens.peer, s.tokens.ops) = (Secret::new("a"), Secret::new("a")), "tokens.ops and tokens.peer");
        refused(|s| s.push.addr = "nowhere".to_owned(), "push.addr");
        refused(|s| s.push.addr = "127.0.0.1:0".to_owned(), "push.keys");
        refused(|s| s.push.nonce_retention_ms = s.push.window_ms, "nonce_retention_ms");
        refused(|s| s.broker.executions = ExecutionsWord::Cumulative, "poll.interval_ms must be above zero");
        refused(|s| s.poll.interval_ms = 1_000, "broker.account_id");
        refused(|s| s.poll.page_len = 0, "poll.page_len");
        refused(|s| s.broker.quantity_decimals = 10, "broker.quantity_decimals");
        refused(|s| s.broker.average_decimals = 13, "broker.average_decimals");
        refused(|s| s.store.call_timeout_ms = s.database.statement_timeout_ms, "call_timeout_ms");
    }

    fn key(id: &str, secret: &str, not_before: &str, not_after: &str) -> PushKeySettings {
        let (id, secret) = (id.to_owned(), Secret::new(secret));
        PushKeySettings { id, secret, not_before: not_before.to_owned(), not_after: not_after.to_owned() }
    }

    #[test]
    fn keys_that_cannot_be_told_apart_or_guessed_are_refused_without_showing_a_secret() {
        let secret = "0123456789abcdef-secret";
        let noon = "2026-04-12T12:00:00Z";
        for (keys, reason) in [
            (vec![key("a", secret, "", ""), key("a", secret, "", "")], "two keys have one id"),
            (vec![key("a b", secret, "", "")], "an id has"),
            (vec![key("a", "short-secret", "", "")], "at least 16 bytes"),
            (vec![key("a", secret, noon, noon)], "not_before must come before"),
            (vec![key("a", secret, "noon", "")], "RFC 3339"),
        ] {
            let mut settings = usable();
            settings.push.keys = keys;
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("secret)"), "{error}");
            assert!(!format!("{error} {settings:?}").contains("-secret"), "{error}");
        }
        let mut settings = usable();
        settings.push.keys = vec![key("a", secret, "", noon), key("b", secret, noon, "")];
        settings.validate().unwrap();
        assert_eq!(settings.push_keys().unwrap().len(), 2);
    }
}
