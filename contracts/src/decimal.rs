//! The grammar of decimal numbers that come from outside.
//!
//! `rust_decimal`'s own parser takes `1_000`, `+1`, `1.` and `.5`, and rounds silently past 28
//! digits. Money must not depend on that, so text is checked against this grammar first:
//! `-? digits [. digits] [e exponent]`, with explicit bounds on both sides of the point. The
//! exponent exists because a JSON encoder may write `0.00001` as `1e-05`; it is expanded exactly.

use rust_decimal::Decimal;
use thiserror::Error;

/// The longest number text that is looked at; anything longer is refused unread.
pub const TEXT_LEN_MAX: usize = 64;

/// Why a text is not a decimal that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecimalError {
    /// The text is not a number of the grammar (this includes `NaN`, `Infinity`, blanks, `+1`).
    #[error("is not a decimal number")]
    NotANumber,
    /// More digits before the point than the value's kind allows.
    #[error("is too large (at most {max} digits before the point)")]
    TooLarge {
        /// Digits allowed before the point.
        max: u32,
    },
    /// More digits after the point than the value's kind allows.
    #[error("has too many decimals (at most {max})")]
    TooPrecise {
        /// Digits allowed after the point.
        max: u32,
    },
}

/// How many digits a kind of value may have on each side of the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecimalBounds {
    /// Significant digits before the point.
    pub integer_digits_max: u32,
    /// Significant digits after the point (trailing zeros do not count).
    pub scale_max: u32,
}

/// Parses a decimal exactly, or says why it is none.
///
/// # Errors
/// [`DecimalError`] when the text is not of the grammar or is outside `bounds`.
pub fn parse_decimal(text: &str, bounds: DecimalBounds) -> Result<Decimal, DecimalError> {
    if text.is_empty() || text.len() > TEXT_LEN_MAX {
        return Err(DecimalError::NotANumber);
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = split_exponent(unsigned)?;
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return Err(DecimalError::NotANumber),
        Some((whole, fraction)) => (whole, fraction),
        None => (mantissa, ""),
    };
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(DecimalError::NotANumber);
    }
    assemble(negative, whole, fraction, exponent, bounds)
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn split_exponent(text: &str) -> Result<(&str, i32), DecimalError> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else {
        return Ok((text, 0));
    };
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || digits.len() > 3 || !all_digits(digits) {
        return Err(DecimalError::NotANumber);
    }
    let value: i32 = digits.parse().map_err(|_| DecimalError::NotANumber)?;
    let signed = if exponent.starts_with('-') { -value } else { value };
    Ok((mantissa, signed))
}

/// Places the point, drops insignificant zeros, checks the bounds, and builds the value.
fn assemble(
    negative: bool,
    whole: &str,
    fraction: &str,
    exponent: i32,
    bounds: DecimalBounds,
) -> Result<Decimal, DecimalError> {
    let too_large = DecimalError::TooLarge { max: bounds.integer_digits_max };
    let too_precise = DecimalError::TooPrecise { max: bounds.scale_max };
    let joined = format!("{whole}{fraction}");
    let fraction_len = i32::try_from(fraction.len()).map_err(|_| too_precise)?;
    let significant = joined.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(Decimal::ZERO);
    }
    let trimmed = significant.trim_end_matches('0');
    let dropped = i32::try_from(significant.len() - trimmed.len()).map_err(|_| too_large)?;
    // value = trimmed * 10^power
    let power = exponent - fraction_len + dropped;
    let digits = i32::try_from(trimmed.len()).map_err(|_| too_large)?;
    if digits + power > i32::try_from(bounds.integer_digits_max).map_err(|_| too_large)? {
        return Err(too_large);
    }
    if -power > i32::try_from(bounds.scale_max).map_err(|_| too_precise)? {
        return Err(too_precise);
    }
    let mut mantissa: i128 = trimmed.parse().map_err(|_| too_large)?;
    let mut scale: u32 = 0;
    if power >= 0 {
        let factor = 10_i128.checked_pow(power.unsigned_abs()).ok_or(too_large)?;
        mantissa = mantissa.checked_mul(factor).ok_or(too_large)?;
    } else {
        scale = power.unsigned_abs();
    }
    if negative {
        mantissa = -mantissa;
    }
    Decimal::try_from_i128_with_scale(mantissa, scale).map_err(|_| too_large)
}

/// A decimal as its shortest plain text: no exponent, no trailing zeros (`2`, not `2.00`).
#[must_use]
pub fn plain(value: Decimal) -> String {
    value.normalize().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: DecimalBounds = DecimalBounds { integer_digits_max: 9, scale_max: 9 };

    #[test]
    fn exact_text_is_taken_exactly() {
        for (text, expected) in [
            ("2", "2"),
            ("2.0", "2"),
            ("2.000000000000", "2"),
            ("0.123456789", "0.123456789"),
            ("-1.5", "-1.5"),
            ("1e3", "1000"),
            ("1e-05", "0.00001"),
            ("15E-1", "1.5"),
            ("000123", "123"),
            ("0e999", "0"),
            ("999999999.999999999", "999999999.999999999"),
        ] {
            assert_eq!(plain(parse_decimal(text, BOUNDS).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn text_outside_the_grammar_is_refused() {
        for text in [
            "",
            " ",
            "NaN",
            "nan",
            "Infinity",
            "-Infinity",
            "+1",
            "1_000",
            "1.",
            ".5",
            "1,5",
            "0x10",
            "1e",
            "1e+",
            "1e1.5",
            "--1",
            "1 ",
            " 1",
            "1\u{0}",
            "١",
            "1e9999",
        ] {
            assert_eq!(parse_decimal(text, BOUNDS), Err(DecimalError::NotANumber), "{text:?}");
        }
        let long = "1".repeat(TEXT_LEN_MAX + 1);
        assert_eq!(parse_decimal(&long, BOUNDS), Err(DecimalError::NotANumber));
    }

    #[test]
    fn bounds_are_enforced_not_rounded() {
        assert_eq!(parse_decimal("1000000000", BOUNDS), Err(DecimalError::TooLarge { max: 9 }));
        assert_eq!(parse_decimal("1e9", BOUNDS), Err(DecimalError::TooLarge { max: 9 }));
        assert_eq!(parse_decimal("0.1234567891", BOUNDS), Err(DecimalError::TooPrecise { max: 9 }));
        assert_eq!(parse_decimal("1e-10", BOUNDS), Err(DecimalError::TooPrecise { max: 9 }));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_errs_without_panicking(text in ".{0,70}") {
            let _ = parse_decimal(&text, BOUNDS);
        }

        #[test]
        fn plain_text_of_a_parsed_value_parses_to_the_same(whole in 0u64..1_000_000_000, frac in 0u64..1_000_000_000) {
            let text = format!("{whole}.{frac:09}");
            let value = parse_decimal(&text, BOUNDS).unwrap();
            prop_assert_eq!(parse_decimal(&plain(value), BOUNDS).unwrap(), value);
        }
    }
}
