//! One order: its terms, its facts, and what it holds.

use super::facts::Facts;
use super::hold::Hold;
use super::status::Status;
use contracts::{AccountId, BrokerId, BrokerOrderId, ClientOrderId, OrderId, OrderTerms, Partition};
use rust_decimal::Decimal;
use time::OffsetDateTime;
use uuid::Uuid;

/// When things happened to an order, by our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Times {
    /// Accepted from the customer.
    pub accepted: OffsetDateTime,
    /// Last change.
    pub updated: OffsetDateTime,
    /// First cancel request.
    pub cancel_requested: Option<OffsetDateTime>,
    /// Became filled, canceled, expired or rejected.
    pub ended: Option<OffsetDateTime>,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Order {
    /// Ours.
    pub id: OrderId,
    /// Whose.
    pub account_id: AccountId,
    /// The client's name for it.
    pub client_order_id: ClientOrderId,
    /// What was asked for.
    pub terms: OrderTerms,
    /// The broker's id of the asset.
    pub asset_id: Uuid,
    /// Cash held for each share of a buy: the limit, or the collar around the reference price.
    pub hold_price: Decimal,
    /// What is known to have happened.
    pub facts: Facts,
    /// What it holds now.
    pub hold: Hold,
    /// Commission posted so far.
    pub commission: Decimal,
    /// Which broker, once known.
    pub broker: Option<BrokerId>,
    /// The broker's id, once known.
    pub broker_order_id: Option<BrokerOrderId>,
    /// Why it was refused or needs a person, in words.
    pub reason: Option<String>,
    /// When things happened.
    pub times: Times,
}

impl Order {
    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(&self.facts, self.terms.quantity().value())
    }

    /// Shares that may still be filled.
    #[must_use]
    pub fn leaves(&self) -> Decimal {
        (self.terms.quantity().value() - self.facts.executed.gross_quantity).max(Decimal::ZERO)
    }

    /// Shares filled beyond what was ordered; above zero is an alarm.
    #[must_use]
    pub fn overfill(&self) -> Decimal {
        (self.facts.executed.gross_quantity - self.terms.quantity().value()).max(Decimal::ZERO)
    }

    /// The partition of its account.
    #[must_use]
    pub fn partition(&self) -> Partition {
        Partition::of_account(self.account_id)
    }

    /// Notes the time of a change, and of the end when this change was the end.
    pub fn touch(&mut self, now: OffsetDateTime) {
        self.times.updated = now;
        match (self.status().is_terminal(), self.times.ended) {
            (true, None) => self.times.ended = Some(now),
            (false, Some(_)) => self.times.ended = None,
            _ => {}
        }
    }
}
