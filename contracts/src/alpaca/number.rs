//! Decimals on the wire: written as strings, read from a string or a JSON number's literal text.

use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer};
use serde::ser::Serializer;
use serde_json::value::RawValue;

use crate::decimal::{DecimalBounds, DecimalError, parse_decimal, plain};

/// A wire type takes whatever a decimal can hold exactly; narrower bounds are business rules.
const BOUNDS: DecimalBounds = DecimalBounds { integer_digits_max: 28, scale_max: 28 };

/// Reads the text of a number.
///
/// # Errors
/// [`DecimalError`] when the text is no number, or cannot be held without rounding.
pub fn parse(text: &str) -> Result<Decimal, DecimalError> {
    parse_decimal(text, BOUNDS)
}

fn from_raw<E: serde::de::Error>(raw: &RawValue) -> Result<Decimal, E> {
    let literal = raw.get();
    let parsed = if literal.starts_with('"') {
        let inner: String = serde_json::from_str(literal).map_err(E::custom)?;
        parse(&inner)
    } else {
        parse(literal)
    };
    parsed.map_err(E::custom)
}

pub(super) fn serialize<S: Serializer>(value: &Decimal, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&plain(*value))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Decimal, D::Error> {
    let raw = Box::<RawValue>::deserialize(input)?;
    from_raw(&raw)
}

/// The same for a number that may be `null` or absent.
pub(super) mod option {
    use super::{Decimal, Deserialize, Deserializer, RawValue, Serializer, from_raw, plain};

    pub(in super::super) fn serialize<S: Serializer>(value: &Option<Decimal>, out: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => out.serialize_some(&plain(*value)),
            None => out.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Decimal>, D::Error> {
        let raw = Option::<Box<RawValue>>::deserialize(input)?;
        raw.map(|raw| from_raw(&raw)).transpose()
    }
}

/// A number that reads as zero when it is `null`.
pub(super) mod or_zero {
    use super::{Decimal, Deserializer, Serializer, option};

    pub(in super::super) fn serialize<S: Serializer>(value: &Decimal, out: S) -> Result<S::Ok, S::Error> {
        super::serialize(value, out)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Decimal, D::Error> {
        option::deserialize(input).map(Option::unwrap_or_default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(input: &str) -> String {
        plain(parse(input).unwrap())
    }

    #[test]
    fn literal_text_is_kept_exactly() {
        assert_eq!(written("0.123456789"), "0.123456789");
        assert_eq!(written("9007199254740993.000000001"), "9007199254740993.000000001");
        assert_eq!(written("1.25E+1"), "12.5");
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused() {
        let long = "1".repeat(40);
        for bad in [long.as_str(), "0.12345678901234567890123456789012", "1e29", "1e-40"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse("99999999999999999999.1234567891").is_err());
    }
}
