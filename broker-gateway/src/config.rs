//! Configuration of the gateway. Every field is explained in `config.default.toml`.

mod checks;
mod derived;
mod sections;

pub use sections::{
    BrokerSettings, EnforcementWord, HttpSettings, IntakeSettings, LaneSettings, LiveSettings, PeerSettings,
    ProfileSettings, ReferenceSettings, RetrySettings, ShutdownSettings, TokenSettings, WatchSettings,
};

use platform::bus::BusConfig;
use platform::config::{ConfigError, DatabaseConfig, RedisConfig};
use platform::consumer::ConsumerConfig;
use platform::lease::LeaseConfig;
use serde::Deserialize;
use std::path::Path;

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
    /// Sharing work with other copies.
    pub copies: LeaseConfig,
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

fn invalid(text: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(text.into())
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
