//! Configuration of the gateway. Every field is explained in `config.default.toml`.

use crate::adapters::caller::CallerLimits;
use crate::application::lane::LaneLimits;
use crate::application::recorder::RecorderLimits;
use crate::application::reference::ReferenceIntervals;
use crate::application::rules::{Rules, Timings};
use crate::domain::lane::LanePolicy;
use crate::domain::live::LivePolicy;
use crate::domain::profile::{KeyEnforcement, Profile, ValidUntil};
use crate::domain::retry::RetryPolicy;
use contracts::BrokerId;
use platform::bus::BusConfig;
use platform::config::{ConfigError, DatabaseConfig, RedisConfig, Secret};
use platform::consumer::ConsumerConfig;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const DEFAULT: &str = include_str!("../config.default.toml");
const PREFIX: &str = "BROKER_GATEWAY__";

/// Names that other processes share, and texts that must stay texts even if they look like numbers.
const ALIASES: &[(&str, &str)] = &[
    ("BROKER_GATEWAY_DATABASE_URL", "database.url"),
    ("REDIS_URL", "redis.url"),
    ("OPS_TOKEN", "tokens.ops"),
    ("PEER_TOKEN", "tokens.peer"),
    ("BROKER_GATEWAY__BROKER__KEY_ID", "broker.key_id"),
    ("BROKER_GATEWAY__BROKER__SECRET_KEY", "broker.secret_key"),
    ("BROKER_GATEWAY__BROKER__ACCOUNT_ID", "broker.account_id"),
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
    /// Reading others' logs.
    pub consumer: ConsumerConfig,
    /// Taking them in.
    pub intake: IntakeSettings,
    /// Where those are.
    pub peers: PeerSettings,
    /// The broker.
    pub broker: BrokerSettings,
    /// What it promises.
    pub profile: ProfileSettings,
    /// Patience with orders that it is not known to have.
    pub retry: RetrySettings,
    /// Patience with calls on orders that it has.
    pub live: LiveSettings,
    /// Rate, concurrency, batches.
    pub lane: LaneSettings,
    /// Assets and prices.
    pub reference: ReferenceSettings,
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

/// Taking others' logs in.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntakeSettings {
    /// Most slices at once.
    pub slices_max: u32,
}

/// Where other processes' operator ports are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// The order server.
    pub order_server_url: String,
    /// The fill receiver.
    pub receiver_url: String,
}

/// The broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct BrokerSettings {
    pub id: String,
    pub base_url: String,
    pub key_id: Secret,
    pub secret_key: Secret,
    pub account_id: String,
    pub connect_timeout_ms: u64,
    pub call_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub body_len_max: usize,
}

/// How a used key is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnforcementWord {
    /// Not at all.
    Never,
    /// For `key_window_ms`.
    Window,
    /// For ever.
    Always,
}

/// What the broker promises.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct ProfileSettings {
    pub key_accepted: bool,
    pub key_looked_up: bool,
    pub key_enforcement: EnforcementWord,
    pub key_window_ms: i64,
    pub honours_valid_until: bool,
    pub record_lag_max_ms: i64,
    pub longest_flight_ms: i64,
    pub clock_skew_max_ms: i64,
    pub rate_limited_is_unprocessed: bool,
}

/// Patience with orders that the broker is not known to have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct RetrySettings {
    pub minute_ms: i64,
    pub ladder_minutes: Vec<i64>,
    pub valid_for_minutes: i64,
    pub doubt_max_minutes: i64,
    pub lookup_delay_first_ms: i64,
    pub unsent_delay_first_ms: i64,
    pub unsent_delay_max_ms: i64,
    pub send_grace_ms: i64,
    pub record_grace_ms: i64,
}

/// Patience with calls on orders that the broker has.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct LiveSettings {
    pub tries_max: i32,
    pub delay_first_ms: i64,
    pub delay_max_ms: i64,
}

/// Rate, concurrency, batches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct LaneSettings {
    pub rate_per_s: u32,
    pub burst: u32,
    pub rate_per_s_max: u32,
    pub concurrency_max: u32,
    pub claim_len_max: u32,
    pub record_len_max: usize,
    pub record_queue_len_max: usize,
    pub poll_interval_ms: u64,
    pub batch_wait_ms: u64,
    pub unreachable_pause_first_ms: u64,
    pub pause_max_ms: u64,
    pub rate_limited_pause_ms: u64,
    pub error_delay_ms: u64,
    pub record_give_up_ms: u64,
}

/// Assets and prices.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct ReferenceSettings {
    pub prices_interval_ms: u64,
    pub assets_interval_ms: u64,
    pub body_len_max: usize,
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

fn invalid(text: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(text.into())
}

fn span(milliseconds: i64) -> time::Duration {
    time::Duration::milliseconds(milliseconds)
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
        platform::config::load(DEFAULT, None, "BROKER_GATEWAY_DEFAULTS_ONLY__", &[])
    }

    /// Checks values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.database.validate()?;
        self.bus.validate()?;
        self.consumer.validate()?;
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

    /// What the broker promises, checked.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a profile that contradicts itself or our timeouts.
    pub fn profile(&self) -> Result<Profile, ConfigError> {
        let settings = &self.profile;
        let key_enforcement = match (settings.key_enforcement, settings.key_window_ms) {
            (EnforcementWord::Window, window) if window > 0 => KeyEnforcement::Window(span(window)),
            (EnforcementWord::Never, 0) => KeyEnforcement::Never,
            (EnforcementWord::Always, 0) => KeyEnforcement::Always,
            _ => {
                return Err(invalid(
                    "profile.key_window_ms must be above zero with profile.key_enforcement = \"window\", and 0 otherwise",
                ));
            }
        };
        let stated = |milliseconds: i64| (milliseconds >= 0).then(|| span(milliseconds));
        let valid_until = if settings.honours_valid_until {
            ValidUntil::Honoured { record_lag_max: stated(settings.record_lag_max_ms) }
        } else {
            ValidUntil::Ignored
        };
        let broker = BrokerId::new(self.broker.id.as_str()).map_err(|error| invalid(format!("broker.id: {error}")))?;
        let profile = Profile {
            broker,
            key_accepted: settings.key_accepted,
            key_looked_up: settings.key_looked_up,
            key_enforcement,
            valid_until,
            longest_flight: stated(settings.longest_flight_ms),
            clock_skew_max: span(settings.clock_skew_max_ms),
            rate_limited_is_unprocessed: settings.rate_limited_is_unprocessed,
        };
        let call_timeout = span(i64::try_from(self.broker.call_timeout_ms).unwrap_or(i64::MAX));
        profile.check(call_timeout).map_err(|error| invalid(format!("profile: {error}")))?;
        Ok(profile)
    }

    /// Promises and patience.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], as [`Settings::profile`].
    pub fn rules(&self) -> Result<Rules, ConfigError> {
        let (retry, live) = (&self.retry, &self.live);
        let minutes = |count: i64| span(count.saturating_mul(retry.minute_ms));
        let lookup_delay_max = minutes(1).max(span(retry.lookup_delay_first_ms));
        let call_timeout = span(i64::try_from(self.broker.call_timeout_ms).unwrap_or(i64::MAX));
        Ok(Rules {
            profile: self.profile()?,
            retry: RetryPolicy {
                ladder: retry.ladder_minutes.iter().copied().map(minutes).collect(),
                lookup_delay_first: span(retry.lookup_delay_first_ms),
                lookup_delay_max,
                unsent_delay_first: span(retry.unsent_delay_first_ms),
                unsent_delay_max: span(retry.unsent_delay_max_ms),
                doubt_max: minutes(retry.doubt_max_minutes),
                send_grace: span(retry.send_grace_ms),
            },
            live: LivePolicy {
                tries_max: live.tries_max,
                delay_first: span(live.delay_first_ms),
                delay_max: span(live.delay_max_ms),
            },
            timings: Timings {
                send_grace: span(retry.send_grace_ms),
                call_timeout,
                record_grace: span(retry.record_grace_ms),
                valid_for: minutes(retry.valid_for_minutes),
            },
        })
    }

    /// Rate and pauses.
    #[must_use]
    pub const fn lane_policy(&self) -> LanePolicy {
        let lane = &self.lane;
        LanePolicy {
            rate_per_s: lane.rate_per_s,
            burst: lane.burst,
            unreachable_pause_first: Duration::from_millis(lane.unreachable_pause_first_ms),
            pause_max: Duration::from_millis(lane.pause_max_ms),
            rate_limited_pause: Duration::from_millis(lane.rate_limited_pause_ms),
        }
    }

    /// Limits of claiming.
    #[must_use]
    pub const fn lane_limits(&self) -> LaneLimits {
        let lane = &self.lane;
        LaneLimits {
            concurrency_max: lane.concurrency_max,
            claim_len_max: lane.claim_len_max,
            poll_interval: Duration::from_millis(lane.poll_interval_ms),
            batch_wait: Duration::from_millis(lane.batch_wait_ms),
            error_delay: Duration::from_millis(lane.error_delay_ms),
        }
    }

    /// Limits of recording.
    #[must_use]
    pub const fn recorder_limits(&self) -> RecorderLimits {
        let lane = &self.lane;
        RecorderLimits {
            batch_len_max: lane.record_len_max,
            error_delay: Duration::from_millis(lane.error_delay_ms),
            give_up_after: Duration::from_millis(lane.record_give_up_ms),
        }
    }

    /// Limits of calls about orders.
    #[must_use]
    pub fn caller_limits(&self) -> CallerLimits {
        let broker = &self.broker;
        CallerLimits {
            connect_timeout: Duration::from_millis(broker.connect_timeout_ms),
            call_timeout: Duration::from_millis(broker.call_timeout_ms),
            idle_timeout: Duration::from_millis(broker.idle_timeout_ms),
            idle_connections_max: usize::try_from(self.lane.concurrency_max).unwrap_or(usize::MAX),
            body_len_max: broker.body_len_max,
        }
    }

    /// Limits of calls about assets and prices.
    #[must_use]
    pub fn reference_limits(&self) -> CallerLimits {
        CallerLimits { idle_connections_max: 2, body_len_max: self.reference.body_len_max, ..self.caller_limits() }
    }

    /// How often the broker is asked for assets and prices.
    #[must_use]
    pub const fn reference_intervals(&self) -> ReferenceIntervals {
        ReferenceIntervals {
            assets: Duration::from_millis(self.reference.assets_interval_ms),
            prices: Duration::from_millis(self.reference.prices_interval_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_defaults_are_valid() {
        Settings::defaults().unwrap().validate().unwrap();
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let refused = |change: fn(&mut Settings), field: &str| {
            let mut settings = Settings::defaults().unwrap();
            change(&mut settings);
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        };
        refused(|s| s.profile.longest_flight_ms = 1, "longest_flight");
        refused(|s| s.profile.key_accepted = false, "key_accepted");
        refused(|s| s.profile.key_enforcement = EnforcementWord::Window, "key_window_ms");
        refused(|s| s.profile.clock_skew_max_ms = -1, "clock_skew_max");
        refused(|s| s.lane.rate_per_s = 1_000_000, "rate_per_s_max");
        refused(|s| s.retry.ladder_minutes = vec![0], "ladder_minutes");
        refused(|s| s.retry.minute_ms = 0, "minute_ms");
        refused(|s| s.broker.connect_timeout_ms = 60_000, "connect_timeout_ms");
        refused(|s| s.shutdown.deadline_ms = 1, "shutdown.deadline_ms");
        refused(|s| s.broker.id = String::new(), "broker.id");
        refused(|s| s.intake.slices_max = s.database.connections_max, "intake.slices_max");
    }

    #[test]
    fn a_minute_scales_the_ladder_and_nothing_that_the_broker_promises() {
        let mut settings = Settings::defaults().unwrap();
        settings.retry.minute_ms = 1000;
        let rules = settings.rules().unwrap();
        assert_eq!(rules.retry.ladder, [1, 2, 4, 8].map(time::Duration::seconds));
        assert_eq!(rules.timings.valid_for, time::Duration::seconds(30));
        assert_eq!(rules.profile, Settings::defaults().unwrap().profile().unwrap());
    }
}
