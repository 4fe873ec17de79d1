//! Configuration of the gateway. Every field is explained in `config.default.toml`.

mod checks;
mod derived;
mod sections;

pub use sections::{
    BrokerSettings, EnforcementWord, HttpSettings, IntakeSettings, LaneSettings, LiveSettings, PeerSettings,
    ProfileSettings, ReferenceSettings, RetrySettings, ShutdownSettings, WatchSettings,
};

use platform::bus::BusConfig;
use platform::config::{ConfigError, Configuration, DatabaseConfig, RedisConfig};
use platform::consumer::ConsumerConfig;
use platform::lease::LeaseConfig;
use platform::operators::TokenSettings;
use platform::trace::TelemetryConfig;
use serde::{Deserialize, Serialize};

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
    /// Traces.
    pub telemetry: TelemetryConfig,
    /// The end.
    pub shutdown: ShutdownSettings,
}

fn invalid(text: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(text.into())
}

impl Configuration for Settings {
    const DEFAULTS: &'static str = include_str!("../config.default.toml");
    const PREFIX: &'static str = "BROKER_GATEWAY__";
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("BROKER_GATEWAY_DATABASE_URL", "database.url"),
        ("REDIS_URL", "redis.url"),
        ("OPS_TOKEN", "tokens.ops"),
        ("PEER_TOKEN", "tokens.peer"),
    ];

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
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
        settings.broker.key_id = Secret::new("key");
        settings.broker.secret_key = Secret::new("secret");
        settings.broker.account_id = "account".to_owned();
        settings
    }

    #[test]
    fn the_defaults_are_valid_once_an_operator_named_servers_and_credentials() {
        usable().validate().unwrap();
        let error = Settings::defaults().unwrap().validate().unwrap_err().to_string();
        for name in ["database.url", "redis.url", "broker.key_id", "broker.secret_key", "broker.account_id"] {
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
        refused(|s| s.shutdown.deadline_ms = 8_000, "shutdown.deadline_ms must exceed retry.send_grace_ms");
        refused(|s| s.retry.valid_for_minutes = 15, "retry.ladder_minutes must end before retry.valid_for_minutes");
        refused(
            |s| s.retry.send_grace_ms = 30 * 60_000,
            "retry.valid_for_minutes must be longer than retry.send_grace_ms",
        );
        refused(
            |s| s.lane.record_give_up_ms = 16_000,
            "lane.record_give_up_ms must exceed database.acquire_timeout_ms",
        );
        refused(
            |s| s.lane.rate_limited_pause_ms = 5_001,
            "lane.rate_limited_pause_ms must not exceed lane.pause_max_ms",
        );
        refused(|s| s.lane.rate_per_s_max = 10_000_000, "lane.rate_per_s_max must be at most");
        refused(|s| s.broker.base_url = "http://user:pw@h".to_owned(), "broker.base_url");
        refused(|s| s.peers.receiver_url = String::new(), "peers.receiver_url");
        refused(|s| s.consumer.silence_ms = 1_000, "consumer.silence_ms must exceed bus.heads_interval_ms");
        refused(|s| s.redis.connect_timeout_ms = 0, "redis.connect_timeout_ms");
        refused(|s| s.tokens.peer = Secret::new("a\nb"), "tokens.peer");
        refused(|s| (s.tokens.peer, s.tokens.ops) = (Secret::new("a"), Secret::new("a")), "tokens.ops and tokens.peer");
    }

    #[test]
    fn a_ladder_that_outlasts_the_window_of_the_broker_s_key_is_refused() {
        let mut settings = usable();
        settings.profile.key_enforcement = EnforcementWord::Window;
        let steps: i64 = settings.retry.ladder_minutes.iter().sum::<i64>() * settings.retry.minute_ms;
        settings.profile.key_window_ms =
            steps + settings.profile.longest_flight_ms + settings.profile.clock_skew_max_ms;
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.contains("retry.ladder_minutes") && error.contains("profile.key_window_ms"), "{error}");
        settings.profile.key_window_ms += 1;
        settings.validate().unwrap();
    }

    #[test]
    fn a_broker_without_keys_or_without_enforcement_can_be_configured() {
        let mut settings = usable();
        settings.profile.key_enforcement = EnforcementWord::Never;
        settings.validate().unwrap();
        (settings.profile.key_accepted, settings.profile.key_looked_up) = (false, false);
        settings.profile.honours_valid_until = false;
        settings.validate().unwrap();
    }

    #[test]
    fn a_minute_scales_the_ladder_and_nothing_that_the_broker_promises() {
        let mut settings = Settings::defaults().unwrap();
        settings.retry.minute_ms = 1000;
        let rules = settings.rules().unwrap();
        assert_eq!(rules.retry.ladder, [1, 2, 4, 8].map(time::Duration::seconds));
        assert_eq!(rules.timings.valid_for, time::Duration::seconds(20));
        assert_eq!(rules.profile, Settings::defaults().unwrap().profile().unwrap());
    }

    mod patience;
}
