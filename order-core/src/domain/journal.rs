//! The double-entry journal: every change of cash or shares is a line that takes an amount from one
//! ledger and gives it to another, so what is posted balances by construction.

use contracts::{AccountId, OrderId};
use rust_decimal::Decimal;
use uuid::Uuid;

/// What moves: a currency code or a symbol.
pub type Asset = String;

/// Where it moves from or to. The first three belong to a customer; the others are the house's
/// side, which has journal lines but no balance row, since such a row would be written by every
/// transaction there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ledger {
    /// The customer may use it.
    Available,
    /// The customer's, reserved for open orders.
    Held,
    /// What the customer owes; its balance is zero or negative.
    Shortfall,
    /// Owed to or by brokers for trades.
    Clearing,
    /// Fees taken.
    Fees,
    /// Money that came in or went out.
    Bank,
}

impl Ledger {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Held => "held",
            Self::Shortfall => "shortfall",
            Self::Clearing => "clearing",
            Self::Fees => "fees",
            Self::Bank => "bank",
        }
    }
}

/// Why something moved. Stored, never null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// What kind of thing caused it, such as `order.accepted` or `broker.fill`.
    pub kind: &'static str,
    /// The event, command or order.
    pub id: Uuid,
}

/// One movement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub account_id: AccountId,
    /// For which order, if any.
    pub order_id: Option<OrderId>,
    /// Why.
    pub cause: Cause,
    /// What.
    pub asset: Asset,
    /// Taken from.
    pub debit: Ledger,
    /// Given to.
    pub credit: Ledger,
    /// How much; above zero.
    pub amount: Decimal,
}
