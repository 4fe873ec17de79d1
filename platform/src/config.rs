//! Typed configuration: a commented default file compiled in, an optional file, the environment.

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use thiserror::Error;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value is missing, of the wrong type, or a key is unknown.
    #[error("configuration is not valid")]
    Read(#[source] Box<figment::Error>),
    /// Two values contradict each other, or one is out of its range.
    #[error("configuration is not valid: {0}")]
    Invalid(String),
}

/// Builds a configuration: `default_toml`, then `file`, then environment variables named
/// `{prefix}SECTION__FIELD`, then `aliases` (an environment variable's name and the dotted path it
/// sets, for names that several processes share).
///
/// # Errors
/// [`ConfigError::Read`] when the result does not fit `T`; give `T` `deny_unknown_fields`.
pub fn load<T: DeserializeOwned>(
    default_toml: &str,
    file: Option<&Path>,
    prefix: &str,
    aliases: &[(&str, &str)],
) -> Result<T, ConfigError> {
    let mut figment = Figment::from(Toml::string(default_toml));
    if let Some(path) = file {
        figment = figment.merge(Toml::file_exact(path));
    }
    figment = figment.merge(Env::prefixed(prefix).split("__"));
    for (variable, path) in aliases {
        if let Ok(value) = std::env::var(variable) {
            figment = figment.merge(Serialized::default(path, value));
        }
    }
    figment.extract().map_err(|error| ConfigError::Read(Box::new(error)))
}

/// A text that never shows itself in logs or errors.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// How to reach this service's database, and the time limits of every connection.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// PostgreSQL URL.
    pub url: Secret,
    /// Most connections of the pool.
    pub connections_max: u32,
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
    /// [`ConfigError::Invalid`] naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("database.connections_max", u64::from(self.connections_max)),
            ("database.acquire_timeout_ms", self.acquire_timeout_ms),
            ("database.statement_timeout_ms", self.statement_timeout_ms),
            ("database.lock_timeout_ms", self.lock_timeout_ms),
            ("database.idle_in_transaction_timeout_ms", self.idle_in_transaction_timeout_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Invalid(format!("{name} must be above zero")));
        }
        if self.idle_in_transaction_timeout_ms > 5_000 {
            return Err(ConfigError::Invalid(
                "database.idle_in_transaction_timeout_ms must be at most 5000: a stopped process would freeze others for longer"
                    .to_owned(),
            ));
        }
        if self.lock_timeout_ms > self.statement_timeout_ms {
            return Err(ConfigError::Invalid(
                "database.lock_timeout_ms must not exceed database.statement_timeout_ms".to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        port: u16,
        token: Secret,
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = load::<Sample>("port = 1\ntoken = \"t\"\nprot = 2", None, "SAMPLE_A__", &[]).unwrap_err();
        let ConfigError::Read(source) = error else { panic!("wrong error") };
        assert!(source.to_string().contains("prot"), "{source}");
    }

    #[test]
    fn a_secret_shows_in_no_output() {
        let sample: Sample = load("port = 1\ntoken = \"hunter2\"", None, "SAMPLE_B__", &[]).unwrap();
        assert_eq!((sample.port, sample.token.expose()), (1, "hunter2"));
        assert!(!format!("{sample:?} {}", sample.token).contains("hunter2"));
        assert!(!serde_json::to_string(&sample.token).unwrap().contains("hunter2"));
    }

    #[test]
    fn an_idle_transaction_limit_that_would_freeze_others_is_refused() {
        let mut config = DatabaseConfig {
            url: Secret::new("postgres://x"),
            connections_max: 4,
            acquire_timeout_ms: 1000,
            statement_timeout_ms: 1000,
            lock_timeout_ms: 500,
            idle_in_transaction_timeout_ms: 1500,
        };
        assert!(config.validate().is_ok());
        config.idle_in_transaction_timeout_ms = 60_000;
        assert!(config.validate().is_err());
    }
}
