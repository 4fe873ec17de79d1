//! Values that contradict each other: refused at the start, by name.

use super::{ExecutionsWord, Settings};
use platform::config::{Checks, ConfigError};
use time::OffsetDateTime;

/// Whether it holds, and what to say where it does not.
type Rule = (bool, &'static str);

impl Settings {
    /// Checks values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_surroundings()?;
        self.tokens.operators.validate(&[&self.tokens.ops, &self.tokens.peer])?;
        self.profile()?;
        self.first_cursor(OffsetDateTime::UNIX_EPOCH)?;
        if self.push_addr()?.is_some() && self.push_keys()?.is_empty() {
            return Err(ConfigError::Invalid("push.keys must hold a key where push.addr is set".to_owned()));
        }
        self.push_keys()?;
        for (name, value) in self.positive_fields() {
            if value == 0 {
                return Err(ConfigError::Invalid(format!("{name} must be above zero")));
            }
        }
        let rules =
            self.push_rules().into_iter().chain(self.stream_rules()).chain(self.poll_rules()).chain(self.other_rules());
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, text)) => Err(ConfigError::Invalid(text.to_owned())),
            None => Ok(()),
        }
    }

    /// Servers, credentials and the chassis.
    fn validate_surroundings(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        let needed = [
            ("database.url must be set (FILL_RECEIVER_DATABASE_URL)", self.database.url.expose()),
            ("redis.url must be set (REDIS_URL)", self.redis.url.expose()),
            ("broker.key_id must be set", &self.broker.key_id),
            ("broker.secret_key must be set", self.broker.secret_key.expose()),
        ];
        for (text, value) in needed {
            checks.require(!value.is_empty(), text);
        }
        checks.server_url("broker.base_url", &self.broker.base_url);
        checks.all_of(self.tokens.ops.check_token("tokens.ops"));
        checks.all_of(self.tokens.peer.check_token("tokens.peer"));
        checks.require(
            self.tokens.ops.expose().is_empty() || self.tokens.ops != self.tokens.peer,
            "tokens.ops and tokens.peer must differ: another process is no operator",
        );
        checks.all_of(self.database.validate());
        checks.all_of(self.redis.validate());
        checks.all_of(self.telemetry.validate());
        checks.all_of(self.bus.validate());
        checks.finish()
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
            ("push.window_ms", self.push.window_ms),
            ("push.prune_interval_ms", self.push.prune_interval_ms),
            ("push.body_bytes_max", size(self.push.body_bytes_max)),
            ("push.events_max", size(self.push.events_max)),
            ("push.body_timeout_ms", self.push.body_timeout_ms),
            ("push.connections_max", size(self.push.connections_max)),
            ("push.in_flight_max", size(self.push.in_flight_max)),
            ("push.deadline_ms", self.push.deadline_ms),
            ("push.retry_after_s", u64::from(self.push.retry_after_s)),
            ("watch.database_interval_ms", self.watch.database_interval_ms),
            ("watch.database_timeout_ms", self.watch.database_timeout_ms),
            ("watch.stream_late_ms", self.watch.stream_late_ms),
            ("audit.stretch_max_ms", self.audit.stretch_max_ms),
            ("audit.deadline_ms", self.audit.deadline_ms),
            ("lease.renewal_ms", self.lease.renewal_ms),
            ("poll.page_len", u64::from(self.poll.page_len)),
            ("poll.pages_max", u64::from(self.poll.pages_max)),
            ("poll.singles_max", u64::from(self.poll.singles_max)),
            ("watch.count_interval_ms", self.watch.count_interval_ms),
            ("watch.invariant_len_max", u64::from(self.watch.invariant_len_max)),
            ("watch.invariant_timeout_ms", self.watch.invariant_timeout_ms),
            ("shutdown.deadline_ms", self.shutdown.deadline_ms),
        ]
    }

    /// What pushes are taken under.
    fn push_rules(&self) -> Vec<Rule> {
        vec![
            (
                self.push.nonce_retention_ms / 2 >= self.push.window_ms,
                "push.nonce_retention_ms must be at least twice push.window_ms: a replay must not outlive its nonce",
            ),
            (self.push.window_ms <= 3_600_000, "push.window_ms must be at most an hour"),
            (self.push.body_bytes_max <= 16 << 20, "push.body_bytes_max must be at most 16 MiB"),
            (self.push.events_max <= 4096, "push.events_max must be at most 4096"),
            (
                self.store.call_timeout_ms > self.database.statement_timeout_ms,
                "store.call_timeout_ms must exceed database.statement_timeout_ms",
            ),
        ]
    }

    /// What the stream is read under.
    fn stream_rules(&self) -> Vec<Rule> {
        let stream = &self.stream;
        vec![
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
        ]
    }

    /// What orders are asked for under.
    fn poll_rules(&self) -> Vec<Rule> {
        let polls = self.poll.interval_ms > 0;
        vec![
            (
                polls || self.broker.executions == ExecutionsWord::Single,
                "poll.interval_ms must be above zero where broker.executions is cumulative: what a stream misses is \
                 seen nowhere else",
            ),
            (!polls || !self.broker.account_id.is_empty(), "broker.account_id must be set where poll.interval_ms is"),
            (self.poll.path.starts_with('/'), "poll.path must start with a slash"),
            ((2..=500).contains(&self.poll.page_len), "poll.page_len must be 2 to 500"),
            (self.broker.quantity_decimals <= 9, "broker.quantity_decimals must be at most 9"),
            (
                (4..=12).contains(&self.broker.average_decimals),
                "broker.average_decimals must be 4 to 12: a coarser average tells no amount",
            ),
        ]
    }

    /// Times and sizes that must fit each other.
    fn other_rules(&self) -> Vec<Rule> {
        vec![
            (
                self.lease.renewal_ms.saturating_mul(2) <= self.lease.duration_ms,
                "lease.duration_ms must be at least twice lease.renewal_ms",
            ),
            (self.lease.duration_ms <= 600_000, "lease.duration_ms must be at most ten minutes"),
            (
                self.broker.replay_window_ms == 0 || self.broker.replay_window_ms > self.stream.overlap_ms,
                "broker.replay_window_ms must exceed stream.overlap_ms",
            ),
            (
                self.audit.interval_ms <= self.audit.stretch_max_ms,
                "audit.stretch_max_ms must not be below audit.interval_ms: audits would fall behind for ever",
            ),
            (
                self.stream.batch_bytes_max >= self.stream.frame_bytes_max,
                "stream.batch_bytes_max must be at least stream.frame_bytes_max",
            ),
            (
                self.stream.queue_events_max >= self.stream.batch_events_max,
                "stream.queue_events_max must be at least stream.batch_events_max",
            ),
            (
                self.shutdown.deadline_ms > self.database.statement_timeout_ms + self.bus.drain_ms,
                "shutdown.deadline_ms must exceed database.statement_timeout_ms + bus.drain_ms",
            ),
            (
                self.database.connections_max >= 4,
                "database.connections_max must be at least 4: the stream, its audit, the feed and operators share them",
            ),
        ]
    }
}
