//! What contradicts itself is refused before anything starts.

use super::{Settings, invalid};
use platform::config::ConfigError;

impl Settings {
    /// Checks values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.database.validate()?;
        self.bus.validate()?;
        self.consumer.validate()?;
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
                self.shutdown.deadline_ms > broker.call_timeout_ms,
                "shutdown.deadline_ms must exceed broker.call_timeout_ms",
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
        self.rules().map(|_| ())
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
            ("lane.poll_interval_ms", i128::from(lane.poll_interval_ms)),
            ("lane.unreachable_pause_first_ms", i128::from(lane.unreachable_pause_first_ms)),
            ("lane.rate_limited_pause_ms", i128::from(lane.rate_limited_pause_ms)),
            ("lane.error_delay_ms", i128::from(lane.error_delay_ms)),
            ("lane.record_give_up_ms", i128::from(lane.record_give_up_ms)),
            ("reference.prices_interval_ms", i128::from(self.reference.prices_interval_ms)),
            ("reference.assets_interval_ms", i128::from(self.reference.assets_interval_ms)),
            ("reference.body_len_max", self.reference.body_len_max as i128),
            ("watch.count_interval_ms", i128::from(self.watch.count_interval_ms)),
        ]
    }
}
