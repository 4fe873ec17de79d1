//! A trade event of the broker's stream.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use super::order::OrderEntity;
use super::words::TradeEventKind;
use super::{number, wire};

/// One event of `GET /v2/events/trades`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TradeEvent {
    /// The broker's account.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub account_id: String,
    /// When the event was written; the cursor's time.
    #[serde(default, with = "rfc3339::option")]
    pub at: Option<OffsetDateTime>,
    /// What happened.
    pub event: TradeEventKind,
    /// Position in the stream (a ULID). A cursor, never an identity: the same execution may come
    /// again under another one.
    #[serde(deserialize_with = "wire::text_or_number")]
    pub event_id: String,
    /// Identity of the execution that a fill, bust or correction is about.
    #[serde(default, deserialize_with = "wire::text_or_number_option")]
    pub execution_id: Option<String>,
    /// The order after the event, with its cumulative quantity.
    pub order: OrderEntity,
    /// When it happened.
    #[serde(default, with = "rfc3339::option")]
    pub timestamp: Option<OffsetDateTime>,
    /// Price of this execution; fills only.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub price: Option<Decimal>,
    /// Shares of this execution, negative in a bust; fills, busts and corrections only.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub qty: Option<Decimal>,
    /// The broker account's position after it; fills only.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub position_qty: Option<Decimal>,
    /// The execution that a bust or correction takes back.
    #[serde(default, deserialize_with = "wire::text_or_number_option", skip_serializing_if = "Option::is_none")]
    pub previous_execution_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILL: &str = r#"{
        "account_id": "529248ad-c4cc-4a50-bea4-6bfd2953f83a", "at": "2026-04-12T13:30:00.673857Z",
        "event": "partial_fill", "event_id": 116516, "execution_id": "7922ab44-5b33-4049-ab9a-0cfd805ba989",
        "order": {"id": "61e69015-8549-4bfd-b9c3-01e75843f47d", "client_order_id": "oor-1", "symbol": "AAPL",
                  "type": "market", "side": "buy", "time_in_force": "day", "status": "partially_filled",
                  "qty": "3", "filled_qty": "1", "filled_avg_price": "187.1200"},
        "position_qty": "1", "price": 187.12, "qty": "1", "timestamp": "2026-04-12T13:30:00.658388Z"
    }"#;

    #[test]
    fn fill_round_trips_and_a_numeric_cursor_becomes_text() {
        let event: TradeEvent = serde_json::from_str(FILL).unwrap();
        assert_eq!(event.event, TradeEventKind::PartialFill);
        assert_eq!(event.event_id, "116516");
        assert_eq!(event.price, Some(Decimal::new(18_712, 2)));
        let text = serde_json::to_string(&event).unwrap();
        assert!(!text.contains('\n'), "one line a data frame");
        assert_eq!(serde_json::from_str::<TradeEvent>(&text).unwrap(), event);
    }

    #[test]
    fn bust_carries_a_negative_quantity_and_its_origin() {
        let text = FILL
            .replace("partial_fill", "trade_bust")
            .replace(r#""qty": "1", "timestamp""#, r#""qty": "-1", "previous_execution_id": "e0", "timestamp""#);
        let event: TradeEvent = serde_json::from_str(&text).unwrap();
        assert_eq!(event.event, TradeEventKind::TradeBust);
        assert_eq!(event.qty, Some(Decimal::NEGATIVE_ONE));
        assert_eq!(event.previous_execution_id.as_deref(), Some("e0"));
    }
}
