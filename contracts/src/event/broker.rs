//! What brokers told the fill receiver.

use super::Payload;
use crate::ids::{BrokerId, BrokerOrderId, ExecutionId, OrderId};
use crate::money::{Price, Quantity};
use crate::symbol::Symbol;
use crate::terms::Side;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// What kind of broker event, with what only that kind carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum BrokerFact {
    /// The order lives at the broker in some state (`new`, `accepted`, `pending_cancel`, …).
    Live,
    /// Shares were traded.
    Fill {
        /// The broker's id of this execution.
        execution_id: ExecutionId,
        /// Shares of this execution alone.
        quantity: Quantity,
        /// Price of this execution.
        price: Price,
    },
    /// An earlier execution is void. It may not have been seen yet.
    Bust {
        /// The broker's id of the bust.
        execution_id: ExecutionId,
        /// The execution that is void.
        previous_execution_id: ExecutionId,
    },
    /// An earlier execution had other figures. It may not have been seen yet.
    Correct {
        /// The broker's id of the correction.
        execution_id: ExecutionId,
        /// The execution that is replaced.
        previous_execution_id: ExecutionId,
        /// The right number of shares.
        quantity: Quantity,
        /// The right price.
        price: Price,
    },
    /// The broker canceled the order.
    Canceled,
    /// The order's time is over.
    Expired,
    /// The broker rejected the order.
    Rejected {
        /// The broker's own words, where it gave any.
        reason: String,
    },
    /// The broker will not cancel the order.
    CancelRejected,
    /// A word that means nothing to the order's state.
    Other,
}

/// An entry of the fill receiver's log: one broker event of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerEvent {
    /// Which broker.
    pub broker: BrokerId,
    /// The broker's id of the order.
    pub broker_order_id: BrokerOrderId,
    /// Our order, read out of the key that came back; none for an order that is not ours.
    pub order_id: Option<OrderId>,
    /// What the broker holds as the client's key.
    pub broker_client_order_id: Option<String>,
    /// The broker's own word for the event.
    pub event: String,
    /// The broker's own word for the order's status. Never used for the executed side.
    pub order_status: String,
    /// What was traded or is to be.
    pub symbol: Symbol,
    /// Buy or sell.
    pub side: Side,
    /// Shares filled so far by the broker's count; none where it did not say.
    #[serde(default, with = "super::figure")]
    pub cumulative_quantity: Option<Decimal>,
    /// When it happened, by the broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What happened.
    #[serde(flatten)]
    pub fact: BrokerFact,
}

impl Payload for BrokerEvent {
    const TYPES: &'static [&'static str] = &[
        "broker.live",
        "broker.fill",
        "broker.bust",
        "broker.correct",
        "broker.canceled",
        "broker.expired",
        "broker.rejected",
        "broker.cancel_rejected",
        "broker.other",
    ];
    const VERSION: i16 = 1;

    fn kind(&self) -> &'static str {
        match self.fact {
            BrokerFact::Live => "broker.live",
            BrokerFact::Fill { .. } => "broker.fill",
            BrokerFact::Bust { .. } => "broker.bust",
            BrokerFact::Correct { .. } => "broker.correct",
            BrokerFact::Canceled => "broker.canceled",
            BrokerFact::Expired => "broker.expired",
            BrokerFact::Rejected { .. } => "broker.rejected",
            BrokerFact::CancelRejected => "broker.cancel_rejected",
            BrokerFact::Other => "broker.other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_keeps_its_exact_figures_over_the_wire() {
        let event = BrokerEvent {
            broker: BrokerId::new("sim").unwrap(),
            broker_order_id: BrokerOrderId::new("b-1").unwrap(),
            order_id: None,
            broker_client_order_id: Some("someone-else".to_owned()),
            event: "partial_fill".to_owned(),
            order_status: "partially_filled".to_owned(),
            symbol: Symbol::new("AAPL").unwrap(),
            side: Side::Buy,
            cumulative_quantity: Some(Decimal::new(123_456_789, 9)),
            at: OffsetDateTime::UNIX_EPOCH,
            fact: BrokerFact::Fill {
                execution_id: ExecutionId::new("e-1").unwrap(),
                quantity: Quantity::parse("0.123456789").unwrap(),
                price: Price::parse("187.1234").unwrap(),
            },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<BrokerEvent>(&text).unwrap(), event);
    }
    #[test]
    fn an_event_without_a_cumulative_figure_reads_back() {
        let text = r#"{"broker":"sim","broker_order_id":"b-1","order_id":null,"broker_client_order_id":null,"event":"new",
            "order_status":"new","symbol":"AAPL","side":"buy","cumulative_quantity":null,"at":"2026-07-01T14:00:00Z","fact":"live"}"#;
        let event: BrokerEvent = serde_json::from_str(text).unwrap();
        assert_eq!(event.cumulative_quantity, None);
        assert_eq!(serde_json::from_str::<BrokerEvent>(&serde_json::to_string(&event).unwrap()).unwrap(), event);
    }
}
