//! What a customer asked for: the terms of an order, made valid at the edge.

use crate::decimal::plain;
use crate::money::{Price, Quantity};
use crate::symbol::Symbol;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Buy or sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Pays cash, receives shares.
    Buy,
    /// Gives shares, receives cash.
    Sell,
}

impl Side {
    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

/// Market or limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderType {
    /// At the best price there is.
    Market,
    /// At the limit price or better.
    Limit,
}

impl OrderType {
    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Market => "market",
            Self::Limit => "limit",
        }
    }
}

/// How long an order lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeInForce {
    /// Until the end of its session.
    Day,
    /// Until canceled.
    Gtc,
}

impl TimeInForce {
    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Gtc => "gtc",
        }
    }
}

macro_rules! from_word {
    ($name:ident: $($word:literal => $variant:ident),+) => {
        impl std::str::FromStr for $name {
            type Err = TermsError;
            fn from_str(word: &str) -> Result<Self, TermsError> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(TermsError::UnknownWord { kind: stringify!($name) }),
                }
            }
        }
    };
}
from_word!(Side: "buy" => Buy, "sell" => Sell);
from_word!(OrderType: "market" => Market, "limit" => Limit);
from_word!(TimeInForce: "day" => Day, "gtc" => Gtc);

/// Terms that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TermsError {
    /// A limit order needs its limit price.
    #[error("limit orders require limit_price")]
    LimitPriceMissing,
    /// A market order has no limit price.
    #[error("market orders take no limit_price")]
    LimitPriceOnMarket,
    /// From one dollar up prices move in whole cents.
    #[error("sub-penny limit_price: use at most 2 decimals from 1.00 up, 4 below")]
    SubPenny,
    /// The word is not one of the kind.
    #[error("unknown {kind}")]
    UnknownWord {
        /// Which kind of word.
        kind: &'static str,
    },
}

/// The terms of an order. Built by [`OrderTerms::new`], so a limit order always has its price.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawTerms")]
pub struct OrderTerms {
    symbol: Symbol,
    side: Side,
    order_type: OrderType,
    time_in_force: TimeInForce,
    quantity: Quantity,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_price: Option<Price>,
}

#[derive(Deserialize)]
struct RawTerms {
    symbol: Symbol,
    side: Side,
    order_type: OrderType,
    time_in_force: TimeInForce,
    quantity: Quantity,
    limit_price: Option<Price>,
}

impl TryFrom<RawTerms> for OrderTerms {
    type Error = TermsError;
    fn try_from(raw: RawTerms) -> Result<Self, TermsError> {
        Self::new(raw.symbol, raw.side, raw.order_type, raw.time_in_force, raw.quantity, raw.limit_price)
    }
}

impl OrderTerms {
    /// Checks that the terms fit together.
    ///
    /// # Errors
    /// [`TermsError`] when the limit price is missing, superfluous or off tick.
    pub fn new(
        symbol: Symbol,
        side: Side,
        order_type: OrderType,
        time_in_force: TimeInForce,
        quantity: Quantity,
        limit_price: Option<Price>,
    ) -> Result<Self, TermsError> {
        match (order_type, limit_price) {
            (OrderType::Limit, None) => return Err(TermsError::LimitPriceMissing),
            (OrderType::Market, Some(_)) => return Err(TermsError::LimitPriceOnMarket),
            (OrderType::Limit, Some(price)) if !price.is_on_tick() => return Err(TermsError::SubPenny),
            _ => {}
        }
        Ok(Self { symbol, side, order_type, time_in_force, quantity, limit_price })
    }

    /// What is traded.
    #[must_use]
    pub const fn symbol(&self) -> &Symbol {
        &self.symbol
    }
    /// Buy or sell.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }
    /// Market or limit.
    #[must_use]
    pub const fn order_type(&self) -> OrderType {
        self.order_type
    }
    /// How long it lives.
    #[must_use]
    pub const fn time_in_force(&self) -> TimeInForce {
        self.time_in_force
    }
    /// How many shares in all (never "what remains").
    #[must_use]
    pub const fn quantity(&self) -> Quantity {
        self.quantity
    }
    /// The limit, for limit orders.
    #[must_use]
    pub const fn limit_price(&self) -> Option<Price> {
        self.limit_price
    }

    /// A hash of the meaning, not of the text: `2`, `2.0` and `"2"` are one; absent and null are one.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let limit = self.limit_price.map(|p| plain(p.value())).unwrap_or_default();
        let quantity = plain(self.quantity.value());
        let fields = [
            "terms-v1",
            self.symbol.as_str(),
            self.side.as_str(),
            self.order_type.as_str(),
            self.time_in_force.as_str(),
            &quantity,
            &limit,
        ];
        let mut hash = Sha256::new();
        for field in fields {
            hash.update(field.as_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(quantity: &str, price: &str) -> Result<OrderTerms, TermsError> {
        OrderTerms::new(
            Symbol::new("AAPL").unwrap(),
            Side::Buy,
            OrderType::Limit,
            TimeInForce::Day,
            Quantity::parse(quantity).unwrap(),
            Some(Price::parse(price).unwrap()),
        )
    }

    #[test]
    fn the_hash_is_of_meaning_not_of_text() {
        assert_eq!(limit("2", "10").unwrap().hash(), limit("2.0", "10.00").unwrap().hash());
        assert_ne!(limit("2", "10").unwrap().hash(), limit("2", "10.01").unwrap().hash());
    }

    #[test]
    fn terms_that_contradict_each_other_are_refused() {
        assert_eq!(limit("1", "10.001"), Err(TermsError::SubPenny));
        let json = r#"{"symbol":"AAPL","side":"buy","order_type":"limit","time_in_force":"day","quantity":"1"}"#;
        assert!(serde_json::from_str::<OrderTerms>(json).is_err());
    }

    #[test]
    fn terms_survive_a_round_trip() {
        let terms = limit("1.5", "10.25").unwrap();
        let text = serde_json::to_string(&terms).unwrap();
        assert_eq!(serde_json::from_str::<OrderTerms>(&text).unwrap(), terms);
    }
}
