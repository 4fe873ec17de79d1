//! Things that must never happen, counted and logged when they do. Each counter must read 0.

use contracts::{AccountId, BrokerOrderId, OrderId};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// The same order id came with other content. The first content stays.
    OtherContent,
    /// The broker shows a second order under our key.
    SecondBrokerOrder {
        /// The one that is known.
        known: String,
        /// The other one.
        other: String,
    },
    /// The broker has something else under our key.
    Contradiction {
        /// What differs.
        what: String,
    },
    /// We had said that the order is not at the broker, and it is.
    AliveAfterEnd {
        /// What we had said.
        said: &'static str,
    },
    /// The broker no longer finds an order that it has shown.
    ObservationFailed {
        /// The last thing seen.
        reason: String,
    },
    /// The bytes of a further attempt would not be those of the first.
    OtherBytes,
    /// Evidence names another broker than the order is pinned to.
    OtherBroker {
        /// Which one.
        broker: String,
    },
    /// Evidence for an order that is not here.
    UnknownOrder,
}

impl Alarm {
    /// The word in metrics and logs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::OtherContent => "other_content",
            Self::SecondBrokerOrder { .. } => "second_broker_order",
            Self::Contradiction { .. } => "contradiction",
            Self::AliveAfterEnd { .. } => "alive_after_end",
            Self::ObservationFailed { .. } => "observation_failed",
            Self::OtherBytes => "other_bytes",
            Self::OtherBroker { .. } => "other_broker",
            Self::UnknownOrder => "unknown_order",
        }
    }
}

/// Counts and logs alarms of an order, once their transaction is committed; with its account and the broker's id
/// where they are known.
pub fn raise(order_id: OrderId, account: Option<AccountId>, broker_order: Option<&BrokerOrderId>, alarms: &[Alarm]) {
    for alarm in alarms {
        metrics::counter!("gateway_alarms_total", "alarm" => alarm.as_str()).increment(1);
        tracing::error!(order_id = %order_id, account_id = account.map(display), broker_order_id = broker_order.map(display),
            alarm = alarm.as_str(), detail = ?alarm, "alarm");
    }
}
