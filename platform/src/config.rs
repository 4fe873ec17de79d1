//! Typed configuration: a commented default file compiled in, an optional file, the environment.

mod checks;
mod layers;
mod report;
mod secret;
mod servers;
#[cfg(test)]
mod tests;

pub use checks::Checks;
pub use layers::{Layers, Origins, Variables, environment};
pub use secret::Secret;
pub use servers::{DatabaseConfig, RedisConfig};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a configuration is refused. No message repeats a value, which may be a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("could not read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("{origin} is not valid: {detail}")]
    Syntax {
        /// Which file.
        origin: String,
        /// Where in it.
        detail: String,
    },
    /// A key that there is not.
    #[error("unknown key {key} in {origin}")]
    UnknownKey {
        /// Which.
        key: String,
        /// In which file.
        origin: String,
    },
    /// A variable with our prefix that sets nothing.
    #[error("environment variable {name} sets no key of the configuration")]
    UnknownVariable {
        /// Which.
        name: String,
    },
    /// A variable whose value cannot be read.
    #[error("environment variable {name} {detail}")]
    Variable {
        /// Which.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// A value of the wrong type or shape.
    #[error("{key} {detail} (set by {origin})")]
    Value {
        /// Which key.
        key: String,
        /// What is wrong.
        detail: String,
        /// Who set it.
        origin: String,
    },
    /// Values that contradict each other or are out of their range.
    #[error("configuration is not valid: {0}")]
    Invalid(String),
}

/// A configuration and where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The values.
    pub settings: T,
    /// Where each came from.
    pub origins: Origins,
}

impl<T: Serialize> Loaded<T> {
    /// The effective configuration: one line a value with where it came from, secrets masked.
    #[must_use]
    pub fn report(&self) -> String {
        report::lines(&values_of(&self.settings), &self.origins)
    }
}

fn values_of<T: Serialize>(settings: &T) -> serde_json::Value {
    serde_json::to_value(settings).unwrap_or_default()
}

/// The configuration of one process.
pub trait Configuration: Serialize + DeserializeOwned {
    /// The compiled-in defaults, which name every key.
    const DEFAULTS: &'static str;
    /// Prefix of its environment variables; ends in two underscores.
    const PREFIX: &'static str;
    /// Variables that several processes share, and the dotted name that each sets.
    const ALIASES: &'static [(&'static str, &'static str)];

    /// Checks values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the fields.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Reads defaults, file and the environment of this process, and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key.
    fn load(file: Option<&Path>) -> Result<Loaded<Self>, ConfigError> {
        Self::load_from(file, &environment(Self::PREFIX, Self::ALIASES)?)
    }

    /// Reads defaults, file and the given variables, and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key.
    fn load_from(file: Option<&Path>, variables: &Variables) -> Result<Loaded<Self>, ConfigError> {
        let layers = Layers { defaults: Self::DEFAULTS, file, prefix: Self::PREFIX, aliases: Self::ALIASES, variables };
        let (settings, origins) = layers::extract::<Self>(&layers)?;
        // First, since sums of times are sure not to overflow only then.
        checks::units(&values_of(&settings))?;
        settings.validate()?;
        Ok(Loaded { settings, origins })
    }

    /// The compiled-in defaults alone, unchecked: they lack what only an operator knows.
    ///
    /// # Errors
    /// [`ConfigError`] when they do not fit this program.
    fn defaults() -> Result<Self, ConfigError> {
        parse_defaults(Self::DEFAULTS)
    }
}

/// Reads a text as if it was the compiled-in defaults, without file or environment.
///
/// # Errors
/// [`ConfigError`] naming the key.
pub fn parse_defaults<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let variables = Variables::new();
    let layers = Layers { defaults: text, file: None, prefix: "NONE__", aliases: &[], variables: &variables };
    layers::extract(&layers).map(|(settings, _)| settings)
}
