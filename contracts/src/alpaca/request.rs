//! The order as it is sent to the broker.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use super::words::{OrderType, Side, TimeInForce};
use super::{number, wire};

/// Body of `POST /v1/trading/accounts/{account_id}/orders`.
///
/// Fields are written in this order, so equal requests are equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRequest {
    /// What to trade.
    pub symbol: String,
    /// Shares, at most 9 decimals.
    #[serde(with = "number")]
    pub qty: Decimal,
    /// Which way shares go.
    pub side: Side,
    /// How the price is set.
    #[serde(rename = "type")]
    pub order_type: OrderType,
    /// How long the order works.
    pub time_in_force: TimeInForce,
    /// Worst price of a limit order.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub limit_price: Option<Decimal>,
    /// Our key, the same on every attempt; empty lets the broker make one.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub client_order_id: String,
    /// Whether the order works outside regular hours.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub extended_hours: bool,
    /// Extension: a broker that honours it refuses the request when it is processed later than
    /// this.
    #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<OffsetDateTime>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn request_is_written_with_decimal_strings_in_a_fixed_order() {
        let request = OrderRequest {
            symbol: "AAPL".to_owned(),
            qty: Decimal::new(1_500_000_000, 9),
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Day,
            limit_price: Some(Decimal::new(18_712, 2)),
            client_order_id: "key-1".to_owned(),
            extended_hours: false,
            valid_until: Some(datetime!(2026-07-01 14:30:00 UTC)),
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            "{\"symbol\":\"AAPL\",\"qty\":\"1.5\",\"side\":\"buy\",\"type\":\"limit\",\
             \"time_in_force\":\"day\",\"limit_price\":\"187.12\",\"client_order_id\":\"key-1\",\
             \"extended_hours\":false,\"valid_until\":\"2026-07-01T14:30:00Z\"}"
        );
        assert_eq!(serde_json::from_str::<OrderRequest>(&text).unwrap(), request);
    }

    #[test]
    fn numbers_and_explicit_nulls_are_read() {
        let request: OrderRequest = serde_json::from_str(
            r#"{"symbol":"F","qty":1e1,"side":"sell","type":"market","time_in_force":"gtc",
                "limit_price":null,"client_order_id":null,"extended_hours":null,"valid_until":null}"#,
        )
        .unwrap();
        assert_eq!(request.qty, Decimal::TEN);
        assert_eq!(request.client_order_id, "");
        assert_eq!(request.valid_until, None);
    }
}
