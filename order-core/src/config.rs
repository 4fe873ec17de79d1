//! Configuration of the order server. Every field is explained in `config.default.toml`.

mod rate;
mod sections;
mod stream;

use crate::adapters::http::BodyLimits;
use crate::adapters::http::limits::Rates;
use crate::application::batch::BatchPolicy;
use crate::application::shard::{ALONE_MAX, ShardConfig};
use crate::domain::hold::Charges;
use contracts::partition::PARTITION_COUNT;
use platform::bus::BusConfig;
use platform::config::{Checks, ConfigError, Configuration, DatabaseConfig, RedisConfig};
use platform::consumer::ConsumerConfig;
use platform::http::ServerLimits;
use platform::lease::LeaseConfig;
use platform::lock::LockConfig;
use platform::operators::TokenSettings;
use platform::rate::Rate;
use platform::trace::TelemetryConfig;
pub use sections::{
    ChargeSettings, HttpSettings, LimitSettings, MarketSettings, PeerSettings, ReferenceSettings, ShutdownSettings,
    WatchSettings, WorkerSettings,
};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;
pub use stream::StreamSettings;

/// Highest commission and collar: the whole price.
const BPS_MAX: i64 = 10_000;

/// Everything.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Listeners.
    pub http: HttpSettings,
    /// How often each client may ask.
    pub limits: LimitSettings,
    /// Credentials of operators and processes.
    pub tokens: TokenSettings,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// The account lock.
    pub lock: LockConfig,
    /// Publishing.
    pub bus: BusConfig,
    /// Reading the other processes' logs.
    pub consumer: ConsumerConfig,
    /// Sharing work with other copies.
    pub copies: LeaseConfig,
    /// The shard workers.
    pub worker: WorkerSettings,
    /// The market.
    pub market: MarketSettings,
    /// What we charge.
    pub charges: ChargeSettings,
    /// Assets and prices.
    pub reference: ReferenceSettings,
    /// The other processes.
    pub peers: PeerSettings,
    /// Updates to clients.
    pub stream: StreamSettings,
    /// Looking after ourselves.
    pub watch: WatchSettings,
    /// Traces.
    pub telemetry: TelemetryConfig,
    /// The end.
    pub shutdown: ShutdownSettings,
}

impl Configuration for Settings {
    const DEFAULTS: &'static str = include_str!("../config.default.toml");
    const PREFIX: &'static str = "ORDER_SERVER__";
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("ORDER_CORE_DATABASE_URL", "database.url"),
        ("REDIS_URL", "redis.url"),
        ("OPS_TOKEN", "tokens.ops"),
        ("PEER_TOKEN", "tokens.peer"),
    ];

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}

fn require(good: bool, text: &str) -> Result<(), ConfigError> {
    if good { Ok(()) } else { Err(ConfigError::Invalid(text.to_owned())) }
}

impl Settings {
    /// The workers' own connections: one for each and one for each account that is at work alone.
    #[must_use]
    pub fn worker_database(&self) -> DatabaseConfig {
        let shards = u32::from(self.worker.shards.unsigned_abs());
        let alone = u32::try_from(ALONE_MAX).unwrap_or(u32::MAX);
        DatabaseConfig { connections_max: shards.saturating_mul(alone.saturating_add(1)), ..self.database.clone() }
    }

    /// The one connection that renews leases.
    #[must_use]
    pub fn lease_database(&self) -> DatabaseConfig {
        DatabaseConfig { connections_max: 1, ..self.database.clone() }
    }

    /// Longest wait for any answer of the database, above all limits that the server itself keeps.
    #[must_use]
    pub fn database_wait_max(&self) -> Duration {
        Duration::from_millis(self.database.acquire_timeout_ms + self.database.statement_timeout_ms + 1_000)
    }

    /// Checks the values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require(!self.database.url.expose().is_empty(), "database.url must be set (ORDER_CORE_DATABASE_URL)")?;
        require(!self.redis.url.expose().is_empty(), "redis.url must be set (REDIS_URL)")?;
        self.database.validate()?;
        self.redis.validate()?;
        self.telemetry.validate()?;
        self.lock.validate(&self.redis)?;
        self.bus.validate()?;
        self.consumer.validate()?;
        self.copies.validate()?;
        self.tokens.operators.validate(&[&self.tokens.ops, &self.tokens.peer])?;
        self.validate_http()?;
        self.validate_limits()?;
        self.validate_worker()?;
        self.validate_neighbours()?;
        self.validate_end()?;
        self.stream.validate(self.database.connections_max)?;
        require(
            self.charges.collar_bps.is_at_most(BPS_MAX) && self.charges.commission_bps.is_at_most(BPS_MAX),
            "charges.commission_bps and charges.collar_bps must be from 0 to 10000",
        )?;
        require(
            self.reference.poll_ms > 0 && self.reference.age_max_ms >= self.reference.poll_ms.saturating_mul(2),
            "reference.poll_ms must be above zero, and reference.age_max_ms at least twice that",
        )?;
        require(
            self.watch.ping_interval_ms > 0 && self.watch.ping_timeout_ms > 0,
            "watch.ping_interval_ms and watch.ping_timeout_ms must be above zero",
        )?;
        require(
            self.watch.invariant_len_max > 0 && self.watch.invariant_timeout_ms > 0,
            "watch.invariant_len_max and watch.invariant_timeout_ms must be above zero",
        )
    }

    fn validate_neighbours(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.server_url("peers.gateway_url", &self.peers.gateway_url);
        checks.server_url("peers.receiver_url", &self.peers.receiver_url);
        checks.all_of(self.tokens.ops.check_token("tokens.ops"));
        checks.all_of(self.tokens.peer.check_token("tokens.peer"));
        checks.require(
            self.tokens.ops.expose().is_empty() || self.tokens.ops != self.tokens.peer,
            "tokens.ops and tokens.peer must differ: another process is no operator",
        );
        let (api, ops) = (self.http.api_addr, self.http.ops_addr);
        checks.require(api != ops || api.port() == 0, "http.api_addr and http.ops_addr must differ");
        checks.all_of(self.consumer.validate_against(&self.bus));
        checks.all_of(self.consumer.validate_against_leases(&self.copies));
        checks.finish()
    }

    fn validate_end(&self) -> Result<(), ConfigError> {
        // A request that came in just before the end is answered: it waits for a worker, then for its batch.
        require(
            self.http.drain_timeout_ms >= self.worker.command_deadline_ms,
            "http.drain_timeout_ms must not be below worker.command_deadline_ms",
        )?;
        let batch_ms = self.database.acquire_timeout_ms + self.database.statement_timeout_ms;
        require(
            self.shutdown.deadline_ms > batch_ms + self.bus.drain_ms,
            "shutdown.deadline_ms must exceed database.acquire_timeout_ms + database.statement_timeout_ms + bus.drain_ms",
        )
    }

    fn validate_http(&self) -> Result<(), ConfigError> {
        let http = &self.http;
        require(http.connections_max > 0, "http.connections_max must be above zero")?;
        require(
            (1..=http.connections_max).contains(&http.connections_per_address_max),
            "http.connections_per_address_max must be from 1 to http.connections_max",
        )?;
        require(http.header_timeout_ms > 0, "http.header_timeout_ms must be above zero")?;
        require(http.write_stall_max_ms >= 1000, "http.write_stall_max_ms must be at least 1000")?;
        require(http.body_timeout_ms > 0, "http.body_timeout_ms must be above zero")?;
        require(http.body_len_max >= 1024, "http.body_len_max must be at least 1024")?;
        require(http.drained_len_max >= http.body_len_max, "http.drained_len_max must not be below http.body_len_max")
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        require(
            limits.requests_per_minute == 0 || limits.requests_burst > 0,
            "limits.requests_burst must be above zero where limits.requests_per_minute is",
        )?;
        require(
            limits.auth_failures_per_minute == 0 || limits.auth_failures_burst > 0,
            "limits.auth_failures_burst must be above zero where limits.auth_failures_per_minute is",
        )
    }

    fn validate_worker(&self) -> Result<(), ConfigError> {
        let worker = &self.worker;
        require((1..=PARTITION_COUNT).contains(&worker.shards), "worker.shards must be from 1 to 16")?;
        require(worker.batch_len_max > 0, "worker.batch_len_max must be above zero")?;
        require(worker.queue_len_max >= worker.batch_len_max, "worker.queue_len_max must be at least a batch")?;
        require(worker.command_deadline_ms > 0, "worker.command_deadline_ms must be above zero")?;
        require(worker.tick_ms > 0 && worker.busy_pause_ms > 0, "worker.tick_ms and busy_pause_ms must be above zero")?;
        require(
            worker.gather_ms < worker.command_deadline_ms,
            "worker.gather_ms must be below worker.command_deadline_ms",
        )?;
        require(worker.tries_max > 0 && worker.retry_pause_ms > 0, "worker.tries_max must be above zero")?;
        require(
            worker.busy_wait_max_ms < self.lock.lease_ms,
            "worker.busy_wait_max_ms must be below lock.lease_ms: a dead holder's lock ends then anyway",
        )?;
        require(
            self.database.connections_max >= 4,
            "database.connections_max must be at least 4: feed, consumers and reads share them",
        )?;
        // Beyond this a batch's locks are gone while it works, and another copy starts on its accounts.
        let batch_ms = self.database.statement_timeout_ms + self.database.lock_timeout_ms;
        require(
            self.lock.lease_ms > batch_ms + self.redis.response_timeout_ms,
            "lock.lease_ms must be above database.statement_timeout_ms + lock_timeout_ms + redis.response_timeout_ms",
        )
    }

    /// From being asked to end to closing the door.
    #[must_use]
    pub const fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.shutdown.drain_delay_ms)
    }

    /// Limits of a listener.
    #[must_use]
    pub fn server_limits(&self) -> ServerLimits {
        ServerLimits {
            connections_max: self.http.connections_max,
            connections_per_address_max: self.http.connections_per_address_max,
            header_timeout: Duration::from_millis(self.http.header_timeout_ms),
            write_stall_max: Duration::from_millis(self.http.write_stall_max_ms),
            drain_timeout: Duration::from_millis(self.http.drain_timeout_ms),
            ..ServerLimits::default()
        }
    }

    /// How often each client may ask. Zero a minute is no limit.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let rate =
            |per_minute, burst| Some(Rate { per_minute: NonZeroU32::new(per_minute)?, burst: NonZeroU32::new(burst)? });
        Rates {
            requests: rate(self.limits.requests_per_minute, self.limits.requests_burst),
            failures: rate(self.limits.auth_failures_per_minute, self.limits.auth_failures_burst),
        }
    }

    /// Limits of request bodies.
    #[must_use]
    pub fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            len_max: self.http.body_len_max,
            drained_len_max: self.http.drained_len_max,
            read_timeout: Duration::from_millis(self.http.body_timeout_ms),
        }
    }

    /// What we charge.
    #[must_use]
    pub const fn charges(&self) -> Charges {
        Charges { commission_bps: self.charges.commission_bps.value(), collar_bps: self.charges.collar_bps.value() }
    }

    /// How workers decide.
    #[must_use]
    pub fn batch_policy(&self) -> BatchPolicy {
        let age_max = Duration::from_millis(self.reference.age_max_ms);
        BatchPolicy {
            charges: self.charges(),
            reference_age_max: time::Duration::try_from(age_max).unwrap_or(time::Duration::MAX),
            losses_max: self.worker.losses_max,
            busy_wait_max: Duration::from_millis(self.worker.busy_wait_max_ms),
            tries_max: self.worker.tries_max,
            retry_pause: Duration::from_millis(self.worker.retry_pause_ms),
            retry_max: Duration::from_millis(self.worker.retry_max_ms),
        }
    }

    /// Sizes and times of one worker.
    #[must_use]
    pub const fn shard(&self) -> ShardConfig {
        ShardConfig {
            batch_len_max: self.worker.batch_len_max,
            queue_len_max: self.worker.queue_len_max,
            tick: Duration::from_millis(self.worker.tick_ms),
            busy_pause: Duration::from_millis(self.worker.busy_pause_ms),
            gather: Duration::from_millis(self.worker.gather_ms),
            facts_interval: Duration::from_millis(self.worker.facts_interval_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::config::Secret;

    fn settings(change: &str) -> Result<Settings, ConfigError> {
        let base = Settings::DEFAULTS.replacen("url = \"\"", "url = \"postgres://h/d\"", 1).replacen(
            "url = \"\"",
            "url = \"redis://h\"",
            1,
        );
        let (from, to) = change.split_once(" -> ").unwrap_or(("", ""));
        assert!(base.contains(from), "{from}");
        let settings: Settings = platform::config::parse_defaults(&base.replacen(from, to, 1))?;
        settings.validate()?;
        Ok(settings)
    }

    #[test]
    fn the_defaults_are_valid_once_the_servers_are_named() {
        let settings = settings("").unwrap();
        assert_eq!(settings.charges().collar_bps, rust_decimal::Decimal::from(500));
        let unnamed: Settings = Settings::defaults().unwrap();
        assert!(unnamed.validate().unwrap_err().to_string().contains("database.url"));
    }

    #[test]
    fn values_that_contradict_each_other_are_refused_by_name() {
        for (change, name) in [
            ("lease_ms = 6000 -> lease_ms = 4000", "lock.lease_ms"),
            ("shards = 2 -> shards = 17", "worker.shards"),
            ("busy_wait_max_ms = 500 -> busy_wait_max_ms = 6000", "worker.busy_wait_max_ms"),
            ("connections_max = 16 -> connections_max = 3", "database.connections_max"),
            ("queue_len_max = 2048 -> queue_len_max = 1", "worker.queue_len_max"),
            ("age_max_ms = 60000 -> age_max_ms = 1000", "reference.age_max_ms"),
            ("collar_bps = \"500\" -> collar_bps = \"10001\"", "charges.collar_bps"),
            ("readers_max = 4 -> readers_max = 14", "stream.readers_max"),
            ("silence_max_ms = 60000 -> silence_max_ms = 20000", "stream.silence_max_ms"),
            ("drained_len_max = 16777216 -> drained_len_max = 1", "http.drained_len_max"),
            ("drain_timeout_ms = 10000 -> drain_timeout_ms = 4999", "worker.command_deadline_ms"),
            (
                "deadline_ms = 15000 -> deadline_ms = 7000",
                "shutdown.deadline_ms must exceed database.acquire_timeout_ms",
            ),
            ("ops_addr = \"127.0.0.1:8081\" -> ops_addr = \"127.0.0.1:8080\"", "http.api_addr and http.ops_addr"),
            ("gateway_url = \"http://127 -> gateway_url = \"redis://127", "peers.gateway_url"),
            ("receiver_url = \"http:// -> receiver_url = \"http://me:pw@", "peers.receiver_url"),
            ("ops = \"\" -> ops = \"a b\"", "tokens.ops"),
            ("peer = \"\" -> peer = \"ä\"", "tokens.peer"),
            ("silence_ms = 2000 -> silence_ms = 1000", "consumer.silence_ms must exceed bus.heads_interval_ms"),
            ("response_timeout_ms = 250 -> response_timeout_ms = 0", "redis.response_timeout_ms"),
            ("heads_ttl_ms = 5000 -> heads_ttl_ms = 1999", "bus.heads_ttl_ms"),
            ("statement_timeout_ms = 3000 -> statement_timeout_ms = 999", "database.lock_timeout_ms"),
            ("connections_per_address_max = 2048 -> connections_per_address_max = 4097", "http.connections_max"),
            ("tick_ms = 100 -> tick_ms = 0", "worker.tick_ms"),
            ("shards = 2 -> shards = -1", "worker.shards"),
            (
                "connections_per_address_max = 2048 -> connections_per_address_max = 0",
                "http.connections_per_address_max",
            ),
            (
                "connections_per_address_max = 2048 -> connections_per_address_max = 4097",
                "http.connections_per_address_max",
            ),
            ("write_stall_max_ms = 30000 -> write_stall_max_ms = 0", "http.write_stall_max_ms"),
            ("\nrequests_burst = 6000 -> \nrequests_burst = 0", "limits.requests_burst"),
            ("auth_failures_burst = 120 -> auth_failures_burst = 0", "limits.auth_failures_burst"),
        ] {
            let error = settings(change).unwrap_err().to_string();
            assert!(error.contains(name), "{change}: {error}");
        }
    }

    #[test]
    fn one_token_for_operators_and_processes_is_refused() {
        let mut settings = settings("").unwrap();
        settings.tokens.ops = Secret::new("same");
        settings.tokens.peer = Secret::new("same");
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.contains("tokens.ops and tokens.peer"), "{error}");
    }

    #[test]
    fn a_charge_that_is_a_float_is_refused() {
        assert!(settings("collar_bps = \"500\" -> collar_bps = 0.1").is_err());
        assert!(settings("collar_bps = \"500\" -> collar_bps = \"-1\"").is_err());
        assert!(settings("collar_bps = \"500\" -> collar_bps = 25").is_ok());
        assert!(settings("collar_bps = \"500\" -> collar_bps = \"2.5\"").is_ok());
    }
}
