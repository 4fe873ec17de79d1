//! Why a command is refused. Typed, so that each has one stable code at the edge.

use super::status::Status;
use contracts::decimal::plain;
use contracts::money::MoneyError;
use contracts::{OrderId, Symbol};
use rust_decimal::Decimal;
use std::fmt;
use thiserror::Error;

/// What an operator has halted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// One account.
    Account,
    /// One symbol.
    Symbol(Symbol),
    /// Everything.
    Market,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("for this account"),
            Self::Symbol(symbol) => write!(f, "for {symbol}"),
            Self::Market => f.write_str("for all orders"),
        }
    }
}

/// A refusal: the command did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No such asset.
    #[error("asset {0} not found")]
    UnknownAsset(Symbol),
    /// The asset is listed and not tradable now.
    #[error("asset {0} is not tradable")]
    NotTradable(Symbol),
    /// Fractions of this share are not traded.
    #[error("asset {0} is not fractionable")]
    NotFractionable(Symbol),
    /// A market order needs a price to hold cash by, and there is none or it is too old.
    #[error("no current price for {0}: market orders cannot be taken now")]
    NoReferencePrice(Symbol),
    /// Not enough cash.
    #[error("insufficient buying power: available {}, required {}", plain(*available), plain(*required))]
    InsufficientBuyingPower {
        /// Cash that orders may use.
        available: Decimal,
        /// Cash that the order would hold.
        required: Decimal,
    },
    /// Not enough shares.
    #[error("insufficient qty available for order: available {}, requested {}", plain(*available), plain(*requested))]
    InsufficientQuantity {
        /// Which share.
        symbol: Symbol,
        /// Shares in the account, held ones included.
        existing: Decimal,
        /// Shares held by open sell orders.
        held: Decimal,
        /// Shares that orders may use.
        available: Decimal,
        /// Shares that the order would sell.
        requested: Decimal,
    },
    /// The account owes money or shares, or is closed.
    #[error("account is restricted: {0}")]
    Restricted(String),
    /// An operator has stopped new orders. Why is not told to customers.
    #[error("trading is halted {0}")]
    Halted(Halt),
    /// Less cash than is to be paid out.
    #[error("insufficient cash: available {}, requested {}", plain(*available), plain(*requested))]
    InsufficientCash {
        /// Cash that is free.
        available: Decimal,
        /// Cash that was to go out.
        requested: Decimal,
    },
    /// The client order id was used for other terms.
    #[error("client_order_id must be unique")]
    DuplicateClientOrderId,
    /// No such order in this account.
    #[error("order not found: {0}")]
    OrderNotFound(OrderId),
    /// The order is at its end.
    #[error("order is not cancelable: it is {}", status.as_str())]
    NotCancelable {
        /// Where it stands.
        status: Status,
    },
    /// An amount that does not fit.
    #[error("amount is out of range")]
    OutOfRange,
    /// A refusal of the same request, stored earlier and given again.
    #[error("{message}")]
    Stored {
        /// HTTP status of the first answer.
        status: u16,
        /// Code of the first answer.
        code: u32,
        /// Message of the first answer.
        message: String,
    },
}

impl From<MoneyError> for Refusal {
    fn from(_: MoneyError) -> Self {
        Self::OutOfRange
    }
}

impl Refusal {
    /// The HTTP status and the stable code of this refusal, as API clients know them.
    #[must_use]
    pub const fn answer(&self) -> (u16, u32) {
        match self {
            Self::UnknownAsset(_) | Self::DuplicateClientOrderId | Self::OutOfRange => (422, 40_010_001),
            Self::NotTradable(_) | Self::NotFractionable(_) | Self::NotCancelable { .. } => (422, 42_210_000),
            Self::NoReferencePrice(_) => (503, 50_310_000),
            Self::InsufficientBuyingPower { .. }
            | Self::InsufficientQuantity { .. }
            | Self::InsufficientCash { .. }
            | Self::Restricted(_) => (403, 40_310_000),
            Self::Halted(_) => (403, 40_310_001),
            Self::OrderNotFound(_) => (404, 40_410_000),
            Self::Stored { status, code, .. } => (*status, *code),
        }
    }

    /// Whether the same request could fare better by itself soon, so that its refusal must not be
    /// kept and given again.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::NoReferencePrice(_) | Self::DuplicateClientOrderId | Self::Stored { .. })
    }
}
