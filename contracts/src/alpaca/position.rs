//! A position as the dialect shows it.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::words::{AssetClass, Exchange, PositionSide};
use super::{number, wire};

/// One row of `GET /v2/positions`. Valuations are `null` while no price is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionEntity {
    /// The asset's id.
    pub asset_id: Uuid,
    /// The asset's symbol.
    pub symbol: String,
    /// Where it is listed.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub exchange: Exchange,
    /// The asset's class.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub asset_class: AssetClass,
    /// Whether it may be bought on margin.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub asset_marginable: bool,
    /// Shares held, negative when short.
    #[serde(with = "number")]
    pub qty: Decimal,
    /// Shares that no open order holds.
    #[serde(default, with = "number::option")]
    pub qty_available: Option<Decimal>,
    /// Average price paid.
    #[serde(with = "number")]
    pub avg_entry_price: Decimal,
    /// Which side of the market.
    pub side: PositionSide,
    /// Shares at the average price paid.
    #[serde(with = "number")]
    pub cost_basis: Decimal,
    /// Shares at the current price.
    #[serde(default, with = "number::option")]
    pub market_value: Option<Decimal>,
    /// Gain not yet taken.
    #[serde(default, with = "number::option")]
    pub unrealized_pl: Option<Decimal>,
    /// The same as a part of the cost.
    #[serde(default, with = "number::option")]
    pub unrealized_plpc: Option<Decimal>,
    /// Gain not yet taken, of today.
    #[serde(default, with = "number::option")]
    pub unrealized_intraday_pl: Option<Decimal>,
    /// The same as a part of the cost.
    #[serde(default, with = "number::option")]
    pub unrealized_intraday_plpc: Option<Decimal>,
    /// Last price.
    #[serde(default, with = "number::option")]
    pub current_price: Option<Decimal>,
    /// Price at the last close.
    #[serde(default, with = "number::option")]
    pub lastday_price: Option<Decimal>,
    /// Change of the price since then, as a part.
    #[serde(default, with = "number::option")]
    pub change_today: Option<Decimal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlisted_exchange_is_the_empty_word_and_unknown_valuations_are_null() {
        let position: PositionEntity = serde_json::from_str(
            r#"{"asset_id":"61e69015-8549-4bfd-b9c3-01e75843f47d","symbol":"AAPL","exchange":null,
                "qty":"3","avg_entry_price":"187.12","side":"long","cost_basis":561.36}"#,
        )
        .unwrap();
        let written = serde_json::to_value(&position).unwrap();
        assert_eq!(written["exchange"], "");
        assert_eq!(written["asset_class"], "us_equity");
        assert_eq!(written["market_value"], serde_json::Value::Null);
        assert_eq!(written["cost_basis"], "561.36");
    }
}
