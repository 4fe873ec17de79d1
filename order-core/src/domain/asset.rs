//! A tradable share and its last known price.

use contracts::{Price, Symbol};
use time::OffsetDateTime;
use uuid::Uuid;

/// What may be traded, as the broker lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// The broker's id of it.
    pub id: Uuid,
    /// Ticker.
    pub symbol: Symbol,
    /// Full name.
    pub name: String,
    /// Exchange word, such as `NASDAQ`.
    pub exchange: String,
    /// Whether orders are taken.
    pub tradable: bool,
    /// Whether fractions of a share are taken.
    pub fractionable: bool,
}

/// The last known price of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReferencePrice {
    /// Per share.
    pub price: Price,
    /// When it was true.
    pub at: OffsetDateTime,
}
