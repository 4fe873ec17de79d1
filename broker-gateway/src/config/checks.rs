//! What contradicts itself is refused before anything starts.

use super::{EnforcementWord, Settings, invalid};
use platform::config::{Checks, ConfigError};

impl Settings {
    /// Checks values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_surroundings()?;
        self.tokens.operators.validate(&[&self.tokens.ops, &self.tokens.peer])?;
        self.copies.validate()?;
        if let Some((name, _)) = self.positive_fields().into_iter().find(|(_, value)| *value <= 0) {
            return Err(invalid(format!("{name} must be above zero")));
        }
        let (lane, retry, broker) = (&self.lane, &self.retry, &self.broker);
        let rules = [
            (lane.rate_per_s <= lane.rate_per_s_max, "lane.rate_per_s must not exceed lane.rate_per_s_max"),
            (
                lane.claim_len_max <= 4096 && lane.record_len_max <= 4096,
                "lane.claim_len_max and lane.record_len_max must be at most 4096",
            ),
            (lane.concurrency_max <= 10_000, "lane.concurrency_max must be at most 10000"),
            (
                lane.unreachable_pause_first_ms <= lane.pause_max_ms,
                "lane.unreachable_pause_first_ms must not exceed lane.pause_max_ms",
            ),
            (
                broker.connect_timeout_ms <= broker.call_timeout_ms,
                "broker.connect_timeout_ms must not exceed broker.call_timeout_ms",
            ),
            (
                retry.unsent_delay_first_ms <= retry.unsent_delay_max_ms,
                "retry.unsent_delay_first_ms must not exceed retry.unsent_delay_max_ms",
            ),
            (
                self.live.delay_first_ms <= self.live.delay_max_ms,
                "live.delay_first_ms must not exceed live.delay_max_ms",
            ),
            (
                retry.ladder_minutes.len() <= 16 && retry.ladder_minutes.iter().all(|minutes| *minutes > 0),
                "retry.ladder_minutes must be at most 16 numbers above zero",
            ),
            (
                !self.profile.honours_valid_until
                    || retry.valid_for_minutes.saturating_mul(retry.minute_ms) > retry.send_grace_ms,
                "retry.valid_for_minutes must be longer than retry.send_grace_ms",
            ),
            (
                i128::from(self.shutdown.deadline_ms)
                    > i128::from(retry.send_grace_ms)
                        + i128::from(broker.call_timeout_ms)
                        + i128::from(retry.record_grace_ms)
                        + i128::from(self.bus.drain_ms),
                "shutdown.deadline_ms must exceed retry.send_grace_ms + broker.call_timeout_ms + retry.record_grace_ms + bus.drain_ms",
            ),
            (
                lane.rate_limited_pause_ms <= lane.pause_max_ms,
                "lane.rate_limited_pause_ms must not exceed lane.pause_max_ms",
            ),
            (lane.rate_per_s_max <= 1_000_000, "lane.rate_per_s_max must be at most 1000000"),
            (
                lane.record_give_up_ms > self.database.acquire_timeout_ms + self.database.statement_timeout_ms,
                "lane.record_give_up_ms must exceed database.acquire_timeout_ms + database.statement_timeout_ms",
            ),
            (!broker.account_id.contains('/'), "broker.account_id must not hold a slash"),
            (
                u64::try_from(retry.review_hold_max_ms).is_ok_and(|hold| hold > broker.call_timeout_ms),
                "retry.review_hold_max_ms must exceed broker.call_timeout_ms: a lookup must be able to end within it",
            ),
            (
                self.intake.slices_max.saturating_add(3) <= self.database.connections_max,
                "intake.slices_max must leave three of database.connections_max to the lane, its recorder and the feed",
            ),
        ];
        if let Some((_, text)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(invalid(text));
        }
        self.rules()?;
        self.validate_ladder()
    }

    /// Servers, credentials and the chassis.
    fn validate_surroundings(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        let broker = &self.broker;
        let needed = [
            ("database.url must be set (BROKER_GATEWAY_DATABASE_URL)", self.database.url.expose()),
            ("redis.url must be set (REDIS_URL)", self.redis.url.expose()),
            ("broker.key_id must be set", broker.key_id.expose()),
            ("broker.secret_key must be set", broker.secret_key.expose()),
            ("broker.account_id must be set", &broker.account_id),
        ];
        for (text, value) in needed {
            checks.require(!value.is_empty(), text);
        }
        checks.server_url("broker.base_url", &broker.base_url);
        checks.server_url("peers.order_server_url", &self.peers.order_server_url);
        checks.server_url("peers.receiver_url", &self.peers.receiver_url);
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
        checks.all_of(self.consumer.validate());
        checks.all_of(self.consumer.validate_against(&self.bus));
        checks.all_of(self.consumer.validate_against_leases(&self.copies));
        checks.finish()
    }

    /// A step of the ladder that can never be taken is a mistake in one of the two.
    fn validate_ladder(&self) -> Result<(), ConfigError> {
        let (retry, profile) = (&self.retry, &self.profile);
        let minutes = |count: i128| count * i128::from(retry.minute_ms);
        let ladder_ms = minutes(retry.ladder_minutes.iter().copied().map(i128::from).sum());
        let attempt_ms = i128::from(retry.send_grace_ms)
            + i128::from(self.broker.call_timeout_ms)
            + i128::from(retry.record_grace_ms);
        // The wait before an attempt begins when the one before it has ended.
        let slowest_ms = ladder_ms + attempt_ms * retry.ladder_minutes.len() as i128 + i128::from(retry.send_grace_ms);
        let mut checks = Checks::default();
        checks.require(
            !profile.honours_valid_until || slowest_ms < minutes(i128::from(retry.valid_for_minutes)),
            "retry.ladder_minutes must end before retry.valid_for_minutes, also when each attempt takes all of retry.send_grace_ms + broker.call_timeout_ms + retry.record_grace_ms: the broker refuses what comes later",
        );
        let flight_ms = i128::from(profile.longest_flight_ms.max(0)) + i128::from(profile.clock_skew_max_ms);
        checks.require(
            profile.key_enforcement != EnforcementWord::Window
                || ladder_ms + flight_ms < i128::from(profile.key_window_ms),
            "retry.ladder_minutes + profile.longest_flight_ms + profile.clock_skew_max_ms must be less than profile.key_window_ms",
        );
        checks.finish()
    }

    fn positive_fields(&self) -> Vec<(&'static str, i128)> {
        let (lane, retry, live, broker) = (&self.lane, &self.retry, &self.live, &self.broker);
        vec![
            ("broker.connect_timeout_ms", i128::from(broker.connect_timeout_ms)),
            ("broker.call_timeout_ms", i128::from(broker.call_timeout_ms)),
            ("broker.idle_timeout_ms", i128::from(broker.idle_timeout_ms)),
            ("broker.body_len_max", broker.body_len_max as i128),
            ("retry.minute_ms", i128::from(retry.minute_ms)),
            ("retry.valid_for_minutes", i128::from(retry.valid_for_minutes)),
            ("retry.doubt_max_minutes", i128::from(retry.doubt_max_minutes)),
            ("retry.lookup_delay_first_ms", i128::from(retry.lookup_delay_first_ms)),
            ("retry.unsent_delay_first_ms", i128::from(retry.unsent_delay_first_ms)),
            ("retry.send_grace_ms", i128::from(retry.send_grace_ms)),
            ("retry.record_grace_ms", i128::from(retry.record_grace_ms)),
            ("live.tries_max", i128::from(live.tries_max)),
            ("live.delay_first_ms", i128::from(live.delay_first_ms)),
            ("intake.slices_max", i128::from(self.intake.slices_max)),
            ("lane.burst", i128::from(lane.burst)),
            ("lane.concurrency_max", i128::from(lane.concurrency_max)),
            ("lane.claim_len_max", i128::from(lane.claim_len_max)),
            ("lane.record_len_max", lane.record_len_max as i128),
            ("lane.record_queue_len_max", lane.record_queue_len_max as i128),
            ("lane.rate_interval_ms", i128::from(lane.rate_interval_ms)),
            ("lane.poll_interval_ms", i128::from(lane.poll_interval_ms)),
            ("lane.unreachable_pause_first_ms", i128::from(lane.unreachable_pause_first_ms)),
            ("lane.rate_limited_pause_ms", i128::from(lane.rate_limited_pause_ms)),
            ("lane.error_delay_ms", i128::from(lane.error_delay_ms)),
            ("lane.record_give_up_ms", i128::from(lane.record_give_up_ms)),
            ("reference.prices_interval_ms", i128::from(self.reference.prices_interval_ms)),
            ("reference.assets_interval_ms", i128::from(self.reference.assets_interval_ms)),
            ("reference.body_len_max", self.reference.body_len_max as i128),
            ("watch.count_interval_ms", i128::from(self.watch.count_interval_ms)),
            ("watch.invariant_len_max", i128::from(self.watch.invariant_len_max)),
            ("watch.invariant_timeout_ms", i128::from(self.watch.invariant_timeout_ms)),
        ]
    }
}
