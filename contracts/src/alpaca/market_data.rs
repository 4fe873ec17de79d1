//! Last prices as the dialect shows them.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use super::number;

/// Answer of `GET /v2/stocks/trades/latest`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestTrades {
    /// The last trade of each symbol asked for; unknown symbols are left out.
    pub trades: BTreeMap<String, LatestTrade>,
}

/// The last trade of one symbol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestTrade {
    /// Its price.
    #[serde(rename = "p", with = "number")]
    pub price: Decimal,
    /// When it happened.
    #[serde(rename = "t", with = "rfc3339")]
    pub at: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn price_is_read_from_text_or_from_the_literal_number() {
        for price in ["\"187.1200\"", "187.12"] {
            let text = format!(r#"{{"trades":{{"AAPL":{{"p":{price},"t":"2026-07-01T14:00:00Z","x":"V"}}}}}}"#);
            let latest: LatestTrades = serde_json::from_str(&text).unwrap();
            assert_eq!(latest.trades["AAPL"].price, Decimal::new(18_712, 2));
        }
    }
}
