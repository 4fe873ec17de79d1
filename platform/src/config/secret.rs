//! Texts that must not be seen.

use super::ConfigError;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;

/// A text that shows itself in no log, error or report.
#[derive(Clone, PartialEq, Eq, Default)]
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

    /// Checks that the text can be a header's value: visible ASCII without spaces, or nothing.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the field.
    pub fn check_token(&self, name: &str) -> Result<(), ConfigError> {
        if self.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(());
        }
        Err(ConfigError::Invalid(format!("{name} must be visible ASCII without spaces")))
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

/// For the report of the effective configuration: it shows only whether there is anything.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(SecretVisitor)
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

struct SecretVisitor;

const EXPECTED: &str = "a text in quotes";

/// Refuses numbers by itself: the error that serde makes of them repeats the value.
impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(format_args!("expected {EXPECTED}")))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(format_args!("expected {EXPECTED}")))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(format_args!("expected {EXPECTED}")))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(format_args!("expected {EXPECTED}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_in_no_output() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""***""#);
        assert_eq!(serde_json::to_string(&Secret::default()).unwrap(), r#""""#);
    }

    #[test]
    fn a_secret_that_is_not_a_text_is_refused_without_showing_it() {
        for json in ["7757", "-7757", "77.57", "true", "[7757]"] {
            let error = serde_json::from_str::<Secret>(json).unwrap_err().to_string();
            assert!(!error.contains("77") && error.contains(EXPECTED), "{error}");
        }
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused_without_showing_it() {
        Secret::new("abc-1.2_3").check_token("tokens.ops").unwrap();
        for bad in ["with space", "line\n", "schlüssel"] {
            let error = Secret::new(bad).check_token("tokens.ops").unwrap_err().to_string();
            assert!(error.contains("tokens.ops") && !error.contains(bad), "{error}");
        }
    }
}
