//! What the order server asks of the gateway.

use super::Payload;
use crate::broker_key::BrokerKey;
use crate::ids::{AccountId, OrderId};
use crate::terms::OrderTerms;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// An entry of the order server's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum OrdersEvent {
    /// Send this order to a broker. Holds full terms, so that the gateway's rows alone can rebuild
    /// an order that the order server lost.
    Submit {
        /// The order.
        order_id: OrderId,
        /// Whose it is.
        account_id: AccountId,
        /// The key for every attempt at the broker.
        broker_key: BrokerKey,
        /// What was asked for.
        terms: OrderTerms,
        /// When the customer's order was accepted.
        #[serde(with = "time::serde::rfc3339")]
        accepted_at: OffsetDateTime,
    },
    /// Cancel this order at the broker, or withdraw it if no attempt was ever made.
    Cancel {
        /// The order.
        order_id: OrderId,
        /// Counts the cancel requests of this order, from 1.
        request: i32,
    },
    /// Ask the broker how this order stands: it is said to be at its end, but its fills are not
    /// all here.
    Lookup {
        /// The order.
        order_id: OrderId,
    },
}

impl OrdersEvent {
    /// The order that it is about.
    #[must_use]
    pub const fn order_id(&self) -> OrderId {
        match self {
            Self::Submit { order_id, .. } | Self::Cancel { order_id, .. } | Self::Lookup { order_id } => *order_id,
        }
    }
}

impl Payload for OrdersEvent {
    const TYPES: &'static [&'static str] = &["order.submit", "order.cancel", "order.lookup"];
    const VERSION: i16 = 1;

    fn kind(&self) -> &'static str {
        match self {
            Self::Submit { .. } => "order.submit",
            Self::Cancel { .. } => "order.cancel",
            Self::Lookup { .. } => "order.lookup",
        }
    }
}
