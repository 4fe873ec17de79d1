//! What the gateway answers: facts about our own calls to brokers.

use super::Payload;
use crate::ids::{BrokerId, BrokerOrderId, OrderId};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// How the gateway came to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceSource {
    /// The reply to a create call.
    Reply,
    /// A lookup by our key or by the broker's id.
    Lookup,
    /// The broker's event stream.
    Stream,
    /// Two persons, on the record.
    Settlement,
}

/// Why an order never left us. Proof, not silence: no attempt may have reached the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotSentReason {
    /// The customer cancelled it first.
    CancelRequested,
    /// Its time was over before it could be sent.
    Expired,
}

/// An order as a broker's reply or lookup showed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedOrder {
    /// The broker's id.
    pub broker_order_id: BrokerOrderId,
    /// The broker's own status word.
    pub status: String,
    /// Shares filled so far by the broker's count; none where it did not say.
    #[serde(default, with = "super::figure")]
    pub cumulative_quantity: Option<Decimal>,
}

/// An entry of the gateway's log: what an attempt came to. That one is under way is not told: no decision depends on
/// it, and telling it would make every order an event dearer. Who wants to know asks the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum GatewayEvent {
    /// An attempt ended without an answer that says anything.
    InDoubt {
        /// The order.
        order_id: OrderId,
        /// Which broker it is pinned to; none in logs that were written before this was told.
        #[serde(default)]
        broker: Option<BrokerId>,
        /// Which attempt.
        attempt: i32,
        /// What was seen instead of an answer.
        reason: String,
    },
    /// The broker has the order.
    Acknowledged {
        /// The order.
        order_id: OrderId,
        /// Which broker.
        broker: BrokerId,
        /// How it looked.
        observed: ObservedOrder,
        /// How we know.
        source: EvidenceSource,
    },
    /// The broker refused the order, and no attempt can have lived.
    Refused {
        /// The order.
        order_id: OrderId,
        /// The broker's own code.
        code: i64,
        /// The broker's own words.
        message: String,
    },
    /// The order never left us.
    NotSent {
        /// The order.
        order_id: OrderId,
        /// Why.
        reason: NotSentReason,
    },
    /// Nothing that a program may do can settle this order any more; a person or a fill must.
    Manual {
        /// The order.
        order_id: OrderId,
        /// Why.
        reason: String,
    },
    /// The answer to a lookup of an order that the broker is known to have.
    Observed {
        /// The order.
        order_id: OrderId,
        /// Which broker.
        broker: BrokerId,
        /// How it looked.
        observed: ObservedOrder,
    },
    /// The broker will not cancel. Not an end of the order: usually a fill came first.
    CancelRefused {
        /// The order.
        order_id: OrderId,
        /// Which cancel request.
        request: i32,
        /// The broker's own code.
        code: i64,
        /// The broker's own words.
        message: String,
    },
    /// Two persons settled a manual order: the broker never had it.
    SettledAbsent {
        /// The order.
        order_id: OrderId,
        /// Who, both.
        by: Vec<String>,
        /// The digest of the evidence that they approved.
        evidence: String,
    },
}

impl GatewayEvent {
    /// The order that it is about.
    #[must_use]
    pub const fn order_id(&self) -> OrderId {
        match self {
            Self::InDoubt { order_id, .. }
            | Self::Acknowledged { order_id, .. }
            | Self::Refused { order_id, .. }
            | Self::NotSent { order_id, .. }
            | Self::Manual { order_id, .. }
            | Self::Observed { order_id, .. }
            | Self::CancelRefused { order_id, .. }
            | Self::SettledAbsent { order_id, .. } => *order_id,
        }
    }
}

impl Payload for GatewayEvent {
    const TYPES: &'static [&'static str] = &[
        "gateway.in_doubt",
        "gateway.acknowledged",
        "gateway.refused",
        "gateway.not_sent",
        "gateway.manual",
        "gateway.observed",
        "gateway.cancel_refused",
        "gateway.settled_absent",
    ];
    const VERSION: i16 = 1;

    fn kind(&self) -> &'static str {
        match self {
            Self::InDoubt { .. } => "gateway.in_doubt",
            Self::Acknowledged { .. } => "gateway.acknowledged",
            Self::Refused { .. } => "gateway.refused",
            Self::NotSent { .. } => "gateway.not_sent",
            Self::Manual { .. } => "gateway.manual",
            Self::Observed { .. } => "gateway.observed",
            Self::CancelRefused { .. } => "gateway.cancel_refused",
            Self::SettledAbsent { .. } => "gateway.settled_absent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_observation_without_a_cumulative_figure_reads_back() {
        let event = GatewayEvent::Acknowledged {
            order_id: OrderId::new(Uuid::from_u128(7)),
            broker: BrokerId::new("sim").unwrap(),
            observed: ObservedOrder {
                broker_order_id: BrokerOrderId::new("b-1").unwrap(),
                status: "accepted".to_owned(),
                cumulative_quantity: None,
            },
            source: EvidenceSource::Settlement,
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<GatewayEvent>(&text).unwrap(), event);
    }
}
