//! A rate in hundredths of a percent, read from a text or a whole number.

use contracts::decimal::{DecimalBounds, parse_decimal};
use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;

const BOUNDS: DecimalBounds = DecimalBounds { integer_digits_max: 5, scale_max: 4 };

/// A rate in hundredths of a percent, not below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bps(Decimal);

impl Bps {
    /// The bare number.
    #[must_use]
    pub const fn value(self) -> Decimal {
        self.0
    }

    /// Whether it is at most so many.
    #[must_use]
    pub fn is_at_most(self, max: i64) -> bool {
        self.0 <= Decimal::from(max)
    }
}

impl Serialize for Bps {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bps {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(BpsVisitor)
    }
}

struct BpsVisitor;

impl Visitor<'_> for BpsVisitor {
    type Value = Bps;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a rate such as \"2.5\", in quotes unless it is a whole number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bps, E> {
        let value = parse_decimal(text, BOUNDS).map_err(E::custom)?;
        if value < Decimal::ZERO { Err(E::custom("must not be negative")) } else { Ok(Bps(value)) }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Bps, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Bps, E> {
        self.visit_str(&value.to_string())
    }
}
