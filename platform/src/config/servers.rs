//! The servers that every process needs.

use super::{Checks, ConfigError, Secret};
use serde::{Deserialize, Serialize};

/// Most connections of one pool: more than any server of ours takes.
const CONNECTIONS_MAX: u32 = 1_000;
/// A process that waits longer than this for its database at its start should say so by its exit.
const START_WAIT_MAX_MS: u64 = 600_000;

/// How to reach this service's database, and the time limits of every connection.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// PostgreSQL URL.
    pub url: Secret,
    /// Most connections of the pool.
    pub connections_max: u32,
    /// How long a start waits for a server that is not there or is still recovering; 0: not at all.
    pub start_wait_ms: u64,
    /// Longest wait for a free connection.
    pub acquire_timeout_ms: u64,
    /// Longest single statement.
    pub statement_timeout_ms: u64,
    /// Longest wait for a row lock.
    pub lock_timeout_ms: u64,
    /// Longest pause inside a transaction. Short, because a stopped process that holds a head row
    /// stops its partition for every other copy until the server ends its session.
    pub idle_in_transaction_timeout_ms: u64,
}

/// How to reach Redis.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// Redis URL.
    pub url: Secret,
    /// Longest wait for an answer.
    pub response_timeout_ms: u64,
    /// Longest wait for a connection.
    pub connect_timeout_ms: u64,
}

impl DatabaseConfig {
    /// Checks the limits against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the fields.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.positive(&[
            ("database.connections_max", u64::from(self.connections_max)),
            ("database.acquire_timeout_ms", self.acquire_timeout_ms),
            ("database.statement_timeout_ms", self.statement_timeout_ms),
            ("database.lock_timeout_ms", self.lock_timeout_ms),
            ("database.idle_in_transaction_timeout_ms", self.idle_in_transaction_timeout_ms),
        ]);
        checks.require(
            self.idle_in_transaction_timeout_ms <= 5_000,
            "database.idle_in_transaction_timeout_ms must be at most 5000: a stopped process would freeze others for longer",
        );
        checks.require(
            self.start_wait_ms <= START_WAIT_MAX_MS,
            format!("database.start_wait_ms must be at most {START_WAIT_MAX_MS}"),
        );
        checks.require(
            self.lock_timeout_ms <= self.statement_timeout_ms,
            "database.lock_timeout_ms must not exceed database.statement_timeout_ms",
        );
        checks.require(
            self.connections_max <= CONNECTIONS_MAX,
            format!("database.connections_max must be at most {CONNECTIONS_MAX}"),
        );
        checks.finish()
    }
}

impl RedisConfig {
    /// Checks the limits.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.positive(&[
            ("redis.response_timeout_ms", self.response_timeout_ms),
            ("redis.connect_timeout_ms", self.connect_timeout_ms),
        ]);
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> DatabaseConfig {
        DatabaseConfig {
            url: Secret::new("postgres://x"),
            connections_max: 4,
            start_wait_ms: 0,
            acquire_timeout_ms: 1000,
            statement_timeout_ms: 1000,
            lock_timeout_ms: 500,
            idle_in_transaction_timeout_ms: 1500,
        }
    }

    #[test]
    fn limits_that_would_freeze_or_starve_others_are_refused_by_name() {
        database().validate().unwrap();
        let refused = |change: fn(&mut DatabaseConfig), name: &str| {
            let mut config = database();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        };
        refused(|c| c.idle_in_transaction_timeout_ms = 60_000, "database.idle_in_transaction_timeout_ms");
        refused(
            |c| c.lock_timeout_ms = 1_001,
            "database.lock_timeout_ms must not exceed database.statement_timeout_ms",
        );
        refused(|c| c.connections_max = 0, "database.connections_max");
        refused(|c| c.connections_max = u32::MAX, "database.connections_max");
        refused(|c| c.acquire_timeout_ms = 0, "database.acquire_timeout_ms");
        refused(|c| c.start_wait_ms = 600_001, "database.start_wait_ms");
    }
}
