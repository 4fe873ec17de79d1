//! An optional figure as text. A type of our own, since events are read through a buffer (they are
//! tagged, or flattened), and there the ready-made reader of optional decimals refuses `null`.

use crate::decimal::{DecimalBounds, parse_decimal, plain};
use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::Serializer;

/// What any quantity that a broker counts fits into.
const BOUNDS: DecimalBounds = DecimalBounds { integer_digits_max: 15, scale_max: 13 };

pub(super) fn serialize<S: Serializer>(value: &Option<Decimal>, out: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => out.serialize_some(&plain(*value)),
        None => out.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Decimal>, D::Error> {
    let text = Option::<String>::deserialize(input)?;
    text.map(|text| parse_decimal(&text, BOUNDS)).transpose().map_err(D::Error::custom)
}
