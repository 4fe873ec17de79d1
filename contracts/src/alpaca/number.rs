//! Decimals on the wire: written as strings, read from a string or a JSON number's literal text.

use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::Serializer;
use serde_json::value::RawValue;

/// Longest text of a number that is read at all; a decimal of 29 digits with sign, point and
/// exponent is far below.
const TEXT_LEN_MAX: usize = 64;

/// Largest exponent, up or down, that is expanded.
const EXPONENT_MAX: i32 = 28;

/// Why a text is no decimal of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not an optional minus, digits, optional fraction, optional exponent.
    #[error("not a decimal number")]
    Malformed,
    /// More digits than a decimal holds; it is never rounded.
    #[error("a number with more digits than can be held exactly")]
    NotExact,
}

/// Reads the text of a number: `-?digits[.digits][e[+-]digits]`.
///
/// # Errors
/// [`NumberError`] when the text is anything else, or cannot be held without rounding.
pub fn parse(text: &str) -> Result<Decimal, NumberError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(NumberError::NotExact);
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return Err(NumberError::Malformed),
        None => (digits, ""),
    };
    if !is_digits(whole) {
        return Err(NumberError::Malformed);
    }
    let shift = exponent.map_or(Ok(0), parse_exponent)?;
    let plain = shifted(whole, fraction, shift);
    let magnitude = Decimal::from_str_exact(&plain).map_err(|_| NumberError::NotExact)?;
    Ok(if negative && !magnitude.is_zero() {
        -magnitude
    } else {
        magnitude
    })
}

/// The text that we write: no exponent, no trailing zeros, no negative zero.
#[must_use]
pub fn text(value: &Decimal) -> String {
    value.normalize().to_string()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_exponent(text: &str) -> Result<i32, NumberError> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !is_digits(digits) {
        return Err(NumberError::Malformed);
    }
    let exponent: i32 = digits.parse().map_err(|_| NumberError::NotExact)?;
    if exponent > EXPONENT_MAX {
        return Err(NumberError::NotExact);
    }
    Ok(sign * exponent)
}

/// Moves the decimal point of `whole.fraction` by `shift` places, as text.
fn shifted(whole: &str, fraction: &str, shift: i32) -> String {
    let digits: String = [whole, fraction].concat();
    let places = fraction.len().cast_signed() - shift as isize;
    let text = if places <= 0 {
        format!("{digits}{}", "0".repeat(places.unsigned_abs()))
    } else {
        let places = places.unsigned_abs();
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (before, after) = padded
            .split_at_checked(padded.len() - places)
            .unwrap_or(("0", "0"));
        format!("{before}.{}", after.trim_end_matches('0'))
    };
    let text = text.trim_end_matches('.').trim_start_matches('0');
    match text.strip_prefix('.') {
        Some(_) => format!("0{text}"),
        None if text.is_empty() => "0".to_owned(),
        None => text.to_owned(),
    }
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
    out.serialize_str(&text(value))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Decimal, D::Error> {
    let raw = Box::<RawValue>::deserialize(input).map_err(D::Error::custom)?;
    from_raw(&raw)
}

/// The same for a number that may be `null` or absent.
pub(super) mod option {
    use super::{Decimal, Deserialize, Deserializer, RawValue, Serializer, from_raw, text};

    pub(in super::super) fn serialize<S: Serializer>(
        value: &Option<Decimal>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => out.serialize_some(&text(value)),
            None => out.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<Decimal>, D::Error> {
        let raw = Option::<Box<RawValue>>::deserialize(input)?;
        raw.map(|raw| from_raw(&raw)).transpose()
    }
}

/// A number that reads as zero when it is `null`.
pub(super) mod or_zero {
    use super::{Decimal, Deserializer, Serializer, option};

    pub(in super::super) fn serialize<S: Serializer>(
        value: &Decimal,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        super::serialize(value, out)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Decimal, D::Error> {
        option::deserialize(input).map(Option::unwrap_or_default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(input: &str) -> String {
        text(&parse(input).unwrap())
    }

    #[test]
    fn literal_text_is_kept_exactly() {
        assert_eq!(written("0.123456789"), "0.123456789");
        assert_eq!(
            written("9007199254740993.000000001"),
            "9007199254740993.000000001"
        );
        assert_eq!(written("-12.50"), "-12.5");
        assert_eq!(written("2.0"), "2");
        assert_eq!(written("007"), "7");
        assert_eq!(written("-0"), "0");
    }

    #[test]
    fn exponents_are_expanded() {
        assert_eq!(written("1e3"), "1000");
        assert_eq!(written("1.25E+1"), "12.5");
        assert_eq!(written("15e-1"), "1.5");
        assert_eq!(written("1e-9"), "0.000000001");
        assert_eq!(written("0e5"), "0");
    }

    #[test]
    fn anything_but_a_plain_number_is_refused() {
        for bad in [
            "", "-", ".5", "1.", "+1", "1_000", "NaN", "inf", "0x10", " 1", "1e", "1e+", "--1",
            "1.2.3",
        ] {
            assert_eq!(parse(bad), Err(NumberError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused() {
        let long = "1".repeat(40);
        for bad in [
            long.as_str(),
            "0.12345678901234567890123456789012",
            "1e29",
            "1e-40",
        ] {
            assert_eq!(parse(bad), Err(NumberError::NotExact), "{bad:?}");
        }
    }
}
