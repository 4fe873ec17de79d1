//! What contradicts itself is refused before anything starts.

use super::ConfigError;
use serde_json::Value;

/// Thirty days: above any time that makes sense here, and far below what a clock overflows at.
const TIME_MAX_MS: i128 = 30 * 24 * 60 * 60 * 1_000;

/// Most of anything that is counted or measured in bytes.
const COUNT_MAX: i128 = 1 << 31;

/// Collects what is wrong, so that an operator sees all of it at once.
#[derive(Debug, Default)]
pub struct Checks {
    found: Vec<String>,
}

impl Checks {
    /// Refuses with a text that names every field it is about, unless it holds.
    pub fn require(&mut self, holds: bool, text: impl Into<String>) {
        if !holds {
            self.found.push(text.into());
        }
    }

    /// Refuses zero.
    pub fn positive(&mut self, fields: &[(&str, u64)]) {
        for (name, value) in fields {
            self.require(*value > 0, format!("{name} must be above zero"));
        }
    }

    /// Takes over what another check refuses.
    pub fn all_of(&mut self, checked: Result<(), ConfigError>) {
        match checked {
            Ok(()) => {}
            Err(ConfigError::Invalid(text)) => self.found.push(text),
            Err(error) => self.found.push(error.to_string()),
        }
    }

    /// Checks that a text is the address of a server, and holds no credentials, which would show in
    /// logs.
    pub fn server_url(&mut self, name: &str, url: &str) {
        let good = reqwest::Url::parse(url).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        });
        self.require(good, format!("{name} must be an http or https URL without credentials"));
    }

    /// The end of the check.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that was found.
    pub fn finish(self) -> Result<(), ConfigError> {
        if self.found.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(self.found.join("; "))) }
    }
}

/// Checks every number by the unit in its name: times that would overflow a clock, and sizes that no
/// memory holds.
pub(super) fn units(values: &Value) -> Result<(), ConfigError> {
    let mut checks = Checks::default();
    super::report::leaves(values, &mut |name, value| {
        let Some(number) = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from)) else { return };
        let field = name.rsplit('.').next().unwrap_or(name);
        let ends_in =
            |units: &[&str]| units.iter().any(|unit| field.ends_with(unit) || field.contains(&format!("{unit}_")));
        let max = if ends_in(&["_ms"]) {
            TIME_MAX_MS
        } else if ends_in(&["_minutes"]) {
            TIME_MAX_MS / 60_000
        } else {
            COUNT_MAX
        };
        checks.require(number <= max, format!("{name} must be at most {max}"));
    });
    checks.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let mut checks = Checks::default();
        checks.positive(&[("a.b", 0), ("a.c", 1), ("a.d", 0)]);
        checks.require(false, "a.e must exceed a.f");
        let error = checks.finish().unwrap_err().to_string();
        assert!(error.ends_with("a.b must be above zero; a.d must be above zero; a.e must exceed a.f"), "{error}");
    }

    #[test]
    fn numbers_that_no_clock_or_memory_holds_are_refused() {
        units(&json!({"lock": {"lease_ms": 2_592_000_000_u64, "names": ["x"]}, "retry_ms_max": -1})).unwrap();
        for (values, name) in [
            (json!({"lock": {"lease_ms": 2_592_000_001_u64}}), "lock.lease_ms"),
            (json!({"bus": {"retry_ms_max": u64::MAX}}), "bus.retry_ms_max"),
            (json!({"retry": {"valid_for_minutes": 43_201}}), "retry.valid_for_minutes"),
            (json!({"queue_len_max": u64::MAX}), "queue_len_max"),
            (json!({"retry": {"ladder_minutes": [1, 43_201]}}), "retry.ladder_minutes"),
        ] {
            let error = units(&values).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_server_s_address_is_http_and_holds_no_credentials() {
        let check = |url: &str| {
            let mut checks = Checks::default();
            checks.server_url("peers.url", url);
            checks.finish().map_err(|error| error.to_string())
        };
        check("http://127.0.0.1:8081").unwrap();
        check("https://broker.example/api").unwrap();
        for bad in ["", "127.0.0.1:8081", "ftp://x", "http://", "http://user:hunter2@x", "http://hunter2@x"] {
            let error = check(bad).unwrap_err();
            assert!(error.contains("peers.url") && !error.contains("hunter2"), "{error}");
        }
    }
}
