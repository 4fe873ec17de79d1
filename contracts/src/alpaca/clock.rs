//! The market clock as the dialect shows it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

/// Answer of `GET /v2/clock`. Times carry the exchange's offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockEntity {
    /// Now.
    #[serde(with = "rfc3339")]
    pub timestamp: OffsetDateTime,
    /// Whether the market is open now.
    pub is_open: bool,
    /// The next opening after now.
    #[serde(with = "rfc3339")]
    pub next_open: OffsetDateTime,
    /// The next close after now.
    #[serde(with = "rfc3339")]
    pub next_close: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_of_the_exchange_is_kept() {
        let text = r#"{"timestamp":"2026-07-01T10:00:00.5-04:00","is_open":true,"next_open":"2026-07-02T09:30:00-04:00","next_close":"2026-07-01T16:00:00-04:00"}"#;
        let clock: ClockEntity = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&clock).unwrap(), text);
    }
}
