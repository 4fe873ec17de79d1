//! The error body of the dialect.

use serde::{Deserialize, Serialize};

use super::wire;

/// The dialect's numeric codes. The first three digits are normally the HTTP family; the
/// duplicate is the known exception (code 400…, status 422).
pub mod codes {
    /// A request that cannot be read, or breaks a rule of form (400 or 422).
    pub const INVALID_REQUEST: u32 = 40_010_001;
    /// A client order id that was used before (422). The same number as [`INVALID_REQUEST`]: only
    /// the message tells them apart.
    pub const DUPLICATE_CLIENT_ORDER_ID: u32 = 40_010_001;
    /// A missing or wrong key (401).
    pub const UNAUTHORIZED: u32 = 40_110_000;
    /// Not enough cash or shares, or not permitted (403).
    pub const FORBIDDEN: u32 = 40_310_000;
    /// The pattern-day-trading protection (403).
    pub const DAY_TRADING_PROTECTION: u32 = 40_310_100;
    /// No such order, position or asset (404).
    pub const NOT_FOUND: u32 = 40_410_000;
    /// A business rule: not cancelable, sub-penny price, not tradable (422).
    pub const UNPROCESSABLE: u32 = 42_210_000;
    /// Too many requests (429).
    pub const RATE_LIMITED: u32 = 42_910_000;
    /// Something broke on the serving side (500).
    pub const INTERNAL: u32 = 50_010_000;
    /// Not served at the moment, and proven not taken (503).
    pub const UNAVAILABLE: u32 = 50_310_000;
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct ApiError {
    /// One of [`codes`]; 0 where the sender gave none, as brokers do on 401.
    #[serde(default, deserialize_with = "wire::code")]
    pub code: u32,
    /// For people, except that the duplicate is only told by it.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub message: String,
}

impl ApiError {
    /// The message of a duplicate client order id.
    pub const DUPLICATE_MESSAGE: &'static str = "client_order_id must be unique";

    /// An error body.
    #[must_use]
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The answer to a client order id that was used before.
    #[must_use]
    pub fn duplicate_client_order_id() -> Self {
        Self::new(codes::DUPLICATE_CLIENT_ORDER_ID, Self::DUPLICATE_MESSAGE)
    }

    /// Whether this says that the client order id was used before. The code alone does not tell,
    /// and the message has been seen with spaces and with underscores.
    #[must_use]
    pub fn is_duplicate_client_order_id(&self) -> bool {
        let message = self.message.to_ascii_lowercase().replace([' ', '-'], "_");
        self.code == codes::DUPLICATE_CLIENT_ORDER_ID
            && message.contains("client_order_id")
            && message.contains("unique")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_is_told_by_code_and_message_together() {
        for message in ["client_order_id must be unique", "client order id must be unique"] {
            assert!(ApiError::new(40_010_001, message).is_duplicate_client_order_id());
        }
        assert!(!ApiError::new(40_010_001, "qty is required").is_duplicate_client_order_id());
        assert!(!ApiError::new(42_210_000, "client_order_id must be unique").is_duplicate_client_order_id());
    }

    #[test]
    fn body_without_code_is_read() {
        let error: ApiError = serde_json::from_str(r#"{"message": "forbidden."}"#).unwrap();
        assert_eq!(error, ApiError::new(0, "forbidden."));
        let error: ApiError = serde_json::from_str(r#"{"code": "40410000", "message": null}"#).unwrap();
        assert_eq!(error, ApiError::new(codes::NOT_FOUND, ""));
    }
}
