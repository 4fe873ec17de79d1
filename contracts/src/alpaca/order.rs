//! The order as the dialect shows it.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;
use uuid::Uuid;

use super::words::{AssetClass, OrderClass, OrderStatus, OrderType, PositionIntent, Side, TimeInForce};
use super::{number, wire};

/// An order in an answer or inside a trade event. Every field that client libraries demand is
/// always written, absent values as `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEntity {
    /// The id that the answering side gave the order.
    pub id: Uuid,
    /// The id that the asking side gave it, at most 128 characters. Empty where a broker left it out
    /// of an event, so that the event is kept as one of an order not known to be ours.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub client_order_id: String,
    /// When it was made. Reads as the Unix epoch where a broker left it out, as do the next two;
    /// client libraries refuse `null` in all three.
    #[serde(default = "wire::unix_epoch", with = "wire::time_or_epoch")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(default = "wire::unix_epoch", with = "wire::time_or_epoch")]
    pub updated_at: OffsetDateTime,
    /// When it was handed on.
    #[serde(default = "wire::unix_epoch", with = "wire::time_or_epoch")]
    pub submitted_at: OffsetDateTime,
    /// When the last share was filled.
    #[serde(default, with = "rfc3339::option")]
    pub filled_at: Option<OffsetDateTime>,
    /// When it expired.
    #[serde(default, with = "rfc3339::option")]
    pub expired_at: Option<OffsetDateTime>,
    /// When it is going to expire.
    #[serde(default, with = "rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was canceled.
    #[serde(default, with = "rfc3339::option")]
    pub canceled_at: Option<OffsetDateTime>,
    /// When it was rejected.
    #[serde(default, with = "rfc3339::option")]
    pub failed_at: Option<OffsetDateTime>,
    /// When another order took its place.
    #[serde(default, with = "rfc3339::option")]
    pub replaced_at: Option<OffsetDateTime>,
    /// When its cancel was asked for; only event payloads carry it.
    #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<OffsetDateTime>,
    /// The order that took its place.
    #[serde(default)]
    pub replaced_by: Option<Uuid>,
    /// The order whose place it took.
    #[serde(default)]
    pub replaces: Option<Uuid>,
    /// The asset's id.
    #[serde(default)]
    pub asset_id: Option<Uuid>,
    /// The asset's symbol.
    pub symbol: String,
    /// The asset's class.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub asset_class: AssetClass,
    /// Ordered amount of money; exactly one of this and `qty` is given.
    #[serde(default, with = "number::option")]
    pub notional: Option<Decimal>,
    /// Ordered shares.
    #[serde(default, with = "number::option")]
    pub qty: Option<Decimal>,
    /// Shares filled so far, cumulative.
    #[serde(default, with = "number::or_zero")]
    pub filled_qty: Decimal,
    /// Average price of the filled shares.
    #[serde(default, with = "number::option")]
    pub filled_avg_price: Option<Decimal>,
    /// Whether it belongs to others; brokers write the empty word for a plain order.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub order_class: OrderClass,
    /// The deprecated twin of `type`, still sent. Write the same value in both; read `type`.
    #[serde(rename = "order_type", default)]
    pub order_type_twin: Option<OrderType>,
    /// How its price is set.
    #[serde(rename = "type")]
    pub order_type: OrderType,
    /// Which way shares go.
    pub side: Side,
    /// What it does to the position.
    #[serde(default)]
    pub position_intent: Option<PositionIntent>,
    /// How long it works.
    pub time_in_force: TimeInForce,
    /// Worst price of a limit order.
    #[serde(default, with = "number::option")]
    pub limit_price: Option<Decimal>,
    /// Trigger of a stop order.
    #[serde(default, with = "number::option")]
    pub stop_price: Option<Decimal>,
    /// Trail of a trailing stop, in percent.
    #[serde(default, with = "number::option")]
    pub trail_percent: Option<Decimal>,
    /// Trail of a trailing stop, in money.
    #[serde(default, with = "number::option")]
    pub trail_price: Option<Decimal>,
    /// High-water mark of a trailing stop.
    #[serde(default, with = "number::option")]
    pub hwm: Option<Decimal>,
    /// Where it stands.
    pub status: OrderStatus,
    /// Whether it works outside regular hours.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub extended_hours: bool,
    /// Orders that belong to it. The key is always written, since client libraries demand it.
    #[serde(default)]
    pub legs: Option<Vec<OrderEntity>>,
    /// Share of a leg in its parent.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub ratio_qty: Option<Decimal>,
    /// What the broker charges, where it says so.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub commission: Option<Decimal>,
    /// Currency of the money in it, where the broker says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Who entered it, where the broker says so.
    #[serde(default)]
    pub source: Option<String>,
    /// A label of the correspondent.
    #[serde(default)]
    pub subtag: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const MINIMAL: &str = r#"{
        "id": "61e69015-8549-4bfd-b9c3-01e75843f47d",
        "client_order_id": "oor-1", "symbol": "AAPL", "type": "limit", "side": "buy",
        "time_in_force": "day", "status": "held_for_tests", "qty": 2.50, "limit_price": "150.10",
        "created_at": "2026-03-16T18:38:01.942282123-04:00", "submitted_at": null,
        "something_new": {"deep": [1e999]}
    }"#;

    #[test]
    fn absent_is_null_and_unknown_is_kept_or_ignored() {
        let order: OrderEntity = serde_json::from_str(MINIMAL).unwrap();
        assert_eq!(order.qty, Some(Decimal::new(25, 1)));
        assert_eq!(order.filled_qty, Decimal::ZERO);
        assert_eq!(order.status, OrderStatus::Other("held_for_tests".to_owned()));
        assert_eq!(order.submitted_at, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(order.created_at.nanosecond(), 942_282_123);
        assert_eq!(order.order_type, OrderType::Limit);
        assert_eq!(order.order_class, OrderClass::Unset);
    }

    #[test]
    fn every_demanded_field_is_written_with_the_right_nulls() {
        let order: OrderEntity = serde_json::from_str(MINIMAL).unwrap();
        let written = serde_json::to_value(&order).unwrap();
        for key in [
            "notional",
            "filled_avg_price",
            "legs",
            "stop_price",
            "trail_percent",
            "trail_price",
            "hwm",
            "replaced_by",
            "replaces",
            "filled_at",
            "expired_at",
            "canceled_at",
            "failed_at",
            "replaced_at",
            "expires_at",
            "position_intent",
        ] {
            assert_eq!(written.get(key), Some(&Value::Null), "{key}");
        }
        assert_eq!(written["qty"], "2.5");
        assert_eq!(written["filled_qty"], "0");
        assert_eq!(written["limit_price"], "150.1");
        assert_eq!(written["order_class"], "");
        assert_eq!(written["extended_hours"], false);
        assert!(written.get("commission").is_none());
        let again: OrderEntity = serde_json::from_value(written).unwrap();
        assert_eq!(again, order);
    }

    #[test]
    fn a_quantity_that_is_no_number_is_refused() {
        let bad = MINIMAL.replace("2.50", "\"NaN\"");
        assert!(serde_json::from_str::<OrderEntity>(&bad).is_err());
    }
}
