//! Money, price and quantity: three types that never mix by accident.
//!
//! | operation | result |
//! |---|---|
//! | `Price × Quantity` | exact [`Decimal`] amount: 6+9 digits before the point, 4+9 after, so it fits 28 |
//! | `Money ± Money` | `Result<Money>`: other currency or out of range is an error, never a rounding |
//! | [`round_up_to_cent`] | the one rounding rule: away from zero to 2 decimals, for holds and fees |

use crate::decimal::{DecimalBounds, DecimalError, parse_decimal, plain};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Why a value is not money, a price or a quantity, or why two amounts cannot be combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MoneyError {
    /// The text is no decimal of this kind.
    #[error(transparent)]
    Decimal(#[from] DecimalError),
    /// Zero or negative where only a positive value makes sense.
    #[error("must be greater than zero")]
    NotPositive,
    /// Below zero where that makes no sense.
    #[error("must not be negative")]
    Negative,
    /// Two amounts of different currencies.
    #[error("currencies differ")]
    CurrencyMismatch,
    /// The result does not fit 15 digits before the point.
    #[error("amount is out of range")]
    OutOfRange,
    /// Not three upper-case letters.
    #[error("currency must be three upper-case letters")]
    BadCurrency,
}

/// Amounts: 15 digits before the point, 13 after (what `Price × Quantity` can need).
pub const AMOUNT_BOUNDS: DecimalBounds = DecimalBounds { integer_digits_max: 15, scale_max: 13 };
const PRICE_BOUNDS: DecimalBounds = DecimalBounds { integer_digits_max: 6, scale_max: 4 };
const QUANTITY_BOUNDS: DecimalBounds = DecimalBounds { integer_digits_max: 9, scale_max: 9 };

/// An ISO 4217 currency code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// The United States dollar.
    pub const USD: Self = Self(*b"USD");

    /// Checks and wraps a code.
    ///
    /// # Errors
    /// [`MoneyError::BadCurrency`] unless it is three upper-case letters.
    pub fn new(code: &str) -> Result<Self, MoneyError> {
        match code.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(MoneyError::BadCurrency),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{}", char::from(*b)))
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;
    fn try_from(code: String) -> Result<Self, MoneyError> {
        Self::new(&code)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.to_string()
    }
}

/// An amount in a currency. May be negative (a shortfall, a reversal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    #[serde(with = "rust_decimal::serde::str")]
    amount: Decimal,
    currency: Currency,
}

impl Money {
    /// Wraps an amount that is within range.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`] past 15 digits before or 13 after the point.
    pub fn new(amount: Decimal, currency: Currency) -> Result<Self, MoneyError> {
        Ok(Self { amount: bounded(amount)?, currency })
    }

    /// Nothing, in a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self { amount: Decimal::ZERO, currency }
    }

    /// Reads an amount from text.
    ///
    /// # Errors
    /// [`MoneyError::Decimal`] when the text is no decimal within the bounds.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        Ok(Self { amount: parse_decimal(text, AMOUNT_BOUNDS)?, currency })
    }

    /// The bare amount, for storage.
    #[must_use]
    pub const fn amount(self) -> Decimal {
        self.amount
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The sum.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] or [`MoneyError::OutOfRange`].
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch);
        }
        Ok(Self { amount: add(self.amount, other.amount)?, currency: self.currency })
    }

    /// The difference.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] or [`MoneyError::OutOfRange`].
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.checked_add(Self { amount: -other.amount, currency: other.currency })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", plain(self.amount), self.currency)
    }
}

/// Adds two amounts exactly, or refuses.
///
/// # Errors
/// [`MoneyError::OutOfRange`] when the sum leaves the range; `rust_decimal` alone would round.
pub fn add(a: Decimal, b: Decimal) -> Result<Decimal, MoneyError> {
    bounded(a.checked_add(b).ok_or(MoneyError::OutOfRange)?)
}

/// Checks that an amount is within 15 digits before and 13 after the point.
///
/// # Errors
/// [`MoneyError::OutOfRange`].
pub fn bounded(amount: Decimal) -> Result<Decimal, MoneyError> {
    let amount = amount.normalize();
    if amount.scale() > AMOUNT_BOUNDS.scale_max || amount.abs() >= Decimal::from(1_000_000_000_000_000_i64) {
        return Err(MoneyError::OutOfRange);
    }
    Ok(amount)
}

/// The one rounding rule: up (away from zero) to whole cents. Used for holds and fees only; what
/// the journal posts for an execution is the exact product, so no remainder has to go anywhere.
#[must_use]
pub fn round_up_to_cent(amount: Decimal) -> Decimal {
    amount.round_dp_with_strategy(2, RoundingStrategy::AwayFromZero)
}

macro_rules! positive {
    ($(#[$doc:meta])* $name:ident, $bounds:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Decimal);

        impl $name {
            /// Checks and wraps a value.
            ///
            /// # Errors
            /// [`MoneyError`] when it is not above zero or outside the bounds.
            pub fn new(value: Decimal) -> Result<Self, MoneyError> {
                Self::parse(&plain(value))
            }
            /// Reads a value from text (the literal text of a JSON number, or a string).
            ///
            /// # Errors
            /// [`MoneyError`] when the text is no decimal, not above zero or outside the bounds.
            pub fn parse(text: &str) -> Result<Self, MoneyError> {
                let value = parse_decimal(text, $bounds)?;
                if value <= Decimal::ZERO {
                    return Err(MoneyError::NotPositive);
                }
                Ok(Self(value))
            }
            /// The bare value, for storage and arithmetic.
            #[must_use]
            pub const fn value(self) -> Decimal { self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&plain(self.0)) }
        }
        impl TryFrom<String> for $name {
            type Error = MoneyError;
            fn try_from(text: String) -> Result<Self, MoneyError> { Self::parse(&text) }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String { value.to_string() }
        }
    };
}

positive! {
    /// A price for one share: above zero, below 10^6, at most 4 decimals.
    Price, PRICE_BOUNDS
}
positive! {
    /// A number of shares: above zero, below 10^9, at most 9 decimals.
    Quantity, QUANTITY_BOUNDS
}

impl Price {
    /// Price times a number of shares, exactly. The number may be signed (a reversal).
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`] when the product does not fit.
    pub fn times(self, quantity: Decimal) -> Result<Decimal, MoneyError> {
        bounded(self.0.checked_mul(quantity).ok_or(MoneyError::OutOfRange)?)
    }

    /// Whether the price is on the tick that US rules ask for: whole cents from 1 USD up, four
    /// decimals below (SEC Rule 612).
    #[must_use]
    pub fn is_on_tick(self) -> bool {
        self.0 < Decimal::ONE || self.0.normalize().scale() <= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_product_is_exact() {
        let price = Price::parse("999999.9999").unwrap();
        let quantity = Quantity::parse("999999999.999999999").unwrap();
        let product = price.times(quantity.value()).unwrap();
        assert_eq!(plain(product), "999999999899999.9990000000001");
    }

    #[test]
    fn zero_negative_huge_and_overprecise_values_are_refused() {
        for text in ["0", "-1", "1000000", "1.00001", "NaN"] {
            assert!(Price::parse(text).is_err(), "{text}");
        }
        for text in ["0", "-0.5", "1000000000", "0.1234567891"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sub_penny_prices_are_off_tick_from_one_dollar_up() {
        assert!(!Price::parse("1.001").unwrap().is_on_tick());
        assert!(Price::parse("0.9999").unwrap().is_on_tick());
        assert!(Price::parse("187.10").unwrap().is_on_tick());
    }

    #[test]
    fn amounts_of_two_currencies_never_add() {
        let usd = Money::parse("1", Currency::USD).unwrap();
        let krw = Money::parse("1", Currency::new("KRW").unwrap()).unwrap();
        assert_eq!(usd.checked_add(krw), Err(MoneyError::CurrencyMismatch));
        assert!(Currency::new("usd").is_err());
    }

    #[test]
    fn a_sum_past_the_range_is_refused_not_rounded() {
        let most = Decimal::from_str_exact("999999999999999.9999999999999").unwrap();
        assert_eq!(add(most, Decimal::new(1, 13)), Err(MoneyError::OutOfRange));
    }

    proptest! {
        #[test]
        fn adding_and_subtracting_gives_back_the_same(a in -10i64.pow(14)..10i64.pow(14), b in -10i64.pow(14)..10i64.pow(14), scale in 0u32..13) {
            let x = Money::new(Decimal::new(a, scale), Currency::USD).unwrap();
            let y = Money::new(Decimal::new(b, scale), Currency::USD).unwrap();
            prop_assert_eq!(x.checked_add(y).unwrap().checked_sub(y).unwrap(), x);
        }

        #[test]
        fn rounding_up_never_loses_and_adds_less_than_a_cent(units in 0i64..10i64.pow(15), scale in 0u32..13) {
            let amount = Decimal::new(units, scale);
            let up = round_up_to_cent(amount);
            prop_assert!(up >= amount);
            prop_assert!(up - amount < Decimal::new(1, 2));
        }
    }
}
